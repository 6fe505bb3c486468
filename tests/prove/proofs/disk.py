"""A disk whose power fails: from a trace of what a process did to its files, every state they may be found in.

What was synced is there. Of what came later, any part may be there: whole writes in any order, or single sectors of
them; a file that was created or removed is so for certain only once its folder was synced. A sector is written whole
or not at all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from proofs.faultfs import Event

SECTOR = 512
Files = dict[str, bytes]


class State(NamedTuple):
    """What is found once the power is back, and what had been confirmed by then."""

    files: Files
    acks: str


@dataclass
class _File:
    """One file's bytes, apart from its name."""

    durable: bytearray = field(default_factory=bytearray)
    later: list[Event] = field(default_factory=list)

    def sync(self) -> None:
        for event in self.later:
            _apply(self.durable, event)
        self.later = []

    def found(self, keep: Keep) -> bytes:
        content = bytearray(self.durable)
        for event in self.later:
            keep.apply(content, event)
        return bytes(content)


class Keep:
    """Which of the unsynced deeds reached the disk: ``none``, ``all``, or a choice by chance."""

    def __init__(self, how: str) -> None:
        self._how = how
        self._chance = random.Random(how)

    def name(self) -> bool:
        """Whether the next change of a folder is there, given that all before it are."""
        return self._how == "all" or (self._how != "none" and self._chance.random() < 0.5)

    def apply(self, content: bytearray, event: Event) -> None:
        if self._how == "all":
            _apply(content, event)
        elif self._how != "none" and (luck := self._chance.random()) < 0.7:
            _apply(content, event if luck < 0.4 or event.kind != "W" else self._torn(event), self._chance if luck >= 0.55 else None)

    def _torn(self, event: Event) -> Event:
        """Only its first sectors."""
        return event._replace(data=event.data[: SECTOR * self._chance.randint(0, len(event.data) // SECTOR)])


class Disk:
    """Replays a trace event by event."""

    def __init__(self) -> None:
        self._now: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._renamed: list[Event] = []
        """Changes of the folder since its last sync."""
        self._born: dict[int, _File] = {}
        self.acks = ""

    def replay(self, event: Event) -> None:
        match event.kind:
            case "A":
                self.acks += event.data.decode()
            case "C" | "U":
                self._rename(event)
            case "D":
                self._durable, self._renamed = dict(self._now), []
            case "S":
                self._file(event).sync()
            case _:
                self._file(event).later.append(event)

    def after_power_loss(self, keep: Keep) -> State:
        names = dict(self._durable)
        for event in self._renamed:
            if not keep.name():
                break
            if event.kind == "U":
                names.pop(event.path, None)
            else:
                names[event.path] = self._born[id(event)]
        return State({name: file.found(keep) for name, file in names.items()}, self.acks)

    def _rename(self, event: Event) -> None:
        self._renamed.append(event)
        if event.kind == "U":
            self._now.pop(event.path, None)
        else:
            self._now[event.path] = self._born[id(event)] = _File()

    def _file(self, event: Event) -> _File:
        return self._now[event.path]


def _apply(content: bytearray, event: Event, sectors: random.Random | None = None) -> None:
    """``sectors``: only some of them, by chance."""
    if event.kind == "T":
        del content[event.at :]
        content.extend(bytes(event.at - len(content)))
        return
    end = event.at + len(event.data)
    content.extend(bytes(max(0, end - len(content))))
    if sectors is None:
        content[event.at : end] = event.data
        return
    # A sector that is written in part counts as one: the disk has it whole or not.
    for start in range(event.at // SECTOR * SECTOR, end, SECTOR):
        low, high = max(start, event.at), min(start + SECTOR, end)
        if sectors.random() < 0.5:
            content[low:high] = event.data[low - event.at : high - event.at]
