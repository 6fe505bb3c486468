"""The shells of this process: one for each session and kind of backend, the least recently used closed beyond a number."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from power_loop.contracts.gate import Gate
from power_loop.tools.shell.processes import Spawner
from power_loop.tools.shell.session import Shell

MAX_SHELLS = 64


class ShellKey(NamedTuple):
    """Whose shell it is. Two stores may know sessions of one id, so a session is told by both."""

    store: int
    session_id: str | None
    backend: Hashable


class Place:
    """Where the shell of one key is, or will be. Only who has the turn starts, uses or replaces it."""

    def __init__(self, owner: Any) -> None:
        self.turn: Gate = Gate(1)
        self.shell: Shell | None = None
        self.users = 0
        self.owner: Callable[[], Any] = _weak(owner)


class Shells:
    """Places by key, the most recently used last. Safe from any thread and event loop."""

    def __init__(self, most: int = MAX_SHELLS) -> None:
        self._most = most
        self._places: OrderedDict[ShellKey, Place] = OrderedDict()
        self._lock = threading.Lock()
        self.spawner: Spawner = Spawner()
        self._closes_at_exit = False
        self._stores: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)

    def key(self, store: Any, session_id: str | None, backend: Hashable = None) -> ShellKey:
        with self._lock:
            number = 0 if store is None else self._stores.get(store) or self._stores.setdefault(store, next(self._numbers))
        return ShellKey(number, session_id, backend)

    def __len__(self) -> int:
        """How many shells run."""
        with self._lock:
            return sum(place.shell is not None for place in self._places.values())

    @asynccontextmanager
    async def use(self, key: ShellKey, owner: Any = None) -> AsyncGenerator[Place]:
        """The place of ``key``, to oneself; ``owner`` is the loop with which it is closed."""
        with self._lock:
            self._mind_the_end()
            place = self._places.setdefault(key, Place(owner))
            self._places.move_to_end(key)
            place.users += 1
            place.owner = _weak(owner)
        try:
            async with place.turn:
                if place.shell is not None and not place.shell.usable:
                    await place.shell.close()
                    place.shell = None
                yield place
        finally:
            for shell in self._given_up(key, place):
                await shell.close()

    def take(self, wanted: Callable[[ShellKey, Place], bool]) -> list[Shell]:
        """Remove the idle shells that are ``wanted``, for the caller to close."""
        with self._lock:
            taken = [key for key, place in self._places.items() if place.users == 0 and wanted(key, place)]
            return [shell for key in taken if (shell := self._places.pop(key).shell) is not None]

    def busy(self) -> list[Shell]:
        """The shells that somebody has in hand."""
        with self._lock:
            return [place.shell for place in self._places.values() if place.users and place.shell is not None]

    def forget(self) -> None:
        """In a forked child: all of them are the parent's."""
        places, self._places, self._lock, self.spawner = self._places, OrderedDict(), threading.Lock(), Spawner()
        self._closes_at_exit = False
        for place in places.values():
            if place.shell is not None:
                place.shell.disown()

    def _given_up(self, key: ShellKey, place: Place) -> list[Shell]:
        """The use of ``place`` is over; what has to be closed because of it: its own dead shell, and the idle ones beyond the number."""
        with self._lock:
            place.users -= 1
            if place.users == 0 and (place.shell is None or not place.shell.usable):
                gone = self._places.pop(key, None)
                return [gone.shell] if gone is not None and gone.shell is not None else []
            idle = [key for key, each in self._places.items() if each.users == 0]
            over = idle[: max(0, len(self._places) - self._most)]
            return [shell for key in over if (shell := self._places.pop(key).shell) is not None]

    def _mind_the_end(self) -> None:
        if not self._closes_at_exit:
            self._closes_at_exit = True
            atexit.register(close_all_bash_sessions)


SHELLS = Shells()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHELLS.forget)


def close_all_bash_sessions() -> int:
    """End all shells of this process, and what runs in them; how many there were. Safe from any thread."""
    busy, idle = SHELLS.busy(), SHELLS.take(lambda key, place: True)
    for shell in busy:
        shell.kill()
    for shell in idle:
        shell.close_now()
    return len(busy) + len(idle)


async def close_session_shells(session_id: str, store: Any = None) -> int:
    """End the shells of a session of ``store`` that is closed; how many there were."""
    whose = SHELLS.key(store, session_id)[:2]
    return await _close(SHELLS.take(lambda key, place: key[:2] == whose))


async def close_loop_shells(loop: Any) -> int:
    """End the shells that were last used by ``loop``, which closes; how many there were. Other loops keep theirs."""
    return await _close(SHELLS.take(lambda key, place: place.owner() is loop))


async def _close(shells: list[Shell]) -> int:
    for shell in shells:
        await shell.close()
    return len(shells)


def _weak(owner: Any) -> Callable[[], Any]:
    """A loop that is gone owns nothing."""
    if owner is None:
        return _nobody
    return weakref.ref(owner)


def _nobody() -> None:
    return None
