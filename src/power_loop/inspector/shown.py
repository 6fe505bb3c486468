"""What of an answer is shown: without secrets, each text as far as a screen holds it. The views say what there is; here it is cut.

Which texts are secrets is the business of `contracts.redact`. Names that lead somewhere (ids, cursors, options that are given
back as answers) stay as they are, in what is ours; of what a user gave nothing is exempt. An answer shows a bounded number of
characters in all, so what hiding costs is bounded too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from power_loop.contracts.events import AgentEvent, AgentEventType
from power_loop.contracts.redact import redact, redact_text

Json = dict[str, Any]

# What is shown of one text before it is asked for whole, and of all texts of an answer together.
SHOWN_CHARS, ANSWER_CHARS = 4_000, 100_000
# However many texts there are, each is shown so far.
LEAST_CHARS = 100
# Of a mapping that is too long as a whole, so many fields are shown.
FIELDS_SHOWN = 40
# How far before and behind a piece is looked, for a secret that it cuts in two: a private key is long, and known by its beginning.
BEFORE, BEHIND = 4_096, 256
# What is fetched of a long text in one go, and what is shown of one that is being written.
PIECE_CHARS, LIVE_CHARS = 50_000, 2_000

LEADING = frozenset({
    "session_id", "parent", "parent_session_id", "id", "call_id", "tool_call_id", "job_id", "interaction_id", "digest", "holder",
    "session", "sessions", "next", "further", "from", "to", "kind", "status", "state", "outcome", "lifecycle", "mode", "role",
    "code", "finish_reason",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of the transcript: ``{shown, upto, chars}``, of which the rest can be asked for."""

    text: str
    at_once: int = SHOWN_CHARS


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a user, a tool or a model gave: as JSON, or the beginning of that."""

    value: Any


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody is asked for; ``hidden`` says that something of it is not shown.

    The digest, by which an approval names what it is for, is then not told either: only who saw the whole can name it.
    """

    interaction: Mapping[str, Any]


class Shown:
    """Makes answers ready to be served. ``secrets``: show them."""

    def __init__(self, *, secrets: bool = False) -> None:
        self._secrets = secrets

    def answer(self, told: Any) -> Any:
        """``told`` as plain data."""
        return self._told(told, "", _share([min(len(each.text), each.at_once) for each in _passages(told)]))

    def piece(self, text: str, start: int, size: int) -> str:
        """What is shown of ``size`` characters of ``text``. Pieces side by side show the whole."""
        end = min(start + size, len(text))
        if self._secrets:
            return text[start:end]
        back = max(0, start - BEFORE)
        around = text[back : end + BEHIND]
        seen = redact_text(around)
        if seen == around:
            return text[start:end]
        begins = _as_far_as(seen, redact_text(text[back:start])) if start else 0
        return seen[begins : len(seen) if end == len(text) else max(begins, _as_far_as(seen, redact_text(text[back:end])))]

    def _told(self, told: Any, name: str, share: int) -> Any:
        match told:
            case str():
                return told if name in LEADING else self._line(told, PIECE_CHARS)
            case Passage():
                upto = min(len(told.text), told.at_once, max(share, LEAST_CHARS))
                return {"shown": self.piece(told.text, 0, upto), "upto": upto, "chars": len(told.text)}
            case Given():
                return self._given(told.value)
            case Asked():
                return self._asked(told.interaction)
            case dict():
                return {key: self._told(value, key, share) for key, value in cast("dict[str, Any]", told).items()}
            case list() | tuple():
                return [self._told(each, name, share) for each in cast("list[Any]", told)]
            case _:
                return told

    def _given(self, value: Any) -> Any:
        if len(json.dumps(value, default=str)) > SHOWN_CHARS:
            if not isinstance(value, Mapping):
                return self._line(value if isinstance(value, str) else json.dumps(value, default=str), SHOWN_CHARS)
            held = cast("Mapping[str, Any]", value)
            value = {name: self._given(inner) for name, inner in islice(held.items(), FIELDS_SHOWN)}
        return value if self._secrets else redact(value)

    def _line(self, text: str, chars: int) -> str:
        more = f"… ({len(text)} characters)" if len(text) > chars else ""
        return self.piece(text, 0, chars) + more

    def _asked(self, interaction: Mapping[str, Any]) -> Json:
        told = {name: value if name in LEADING else self._given(value) for name, value in interaction.items()}
        hidden = any(told[name] != value for name, value in interaction.items())
        return {name: value for name, value in told.items() if not (hidden and name == "digest")} | {"hidden": hidden}


class LiveText:
    """The text that a model is writing: its end, but for a last word that may yet become a secret."""

    def __init__(self, shown: Shown) -> None:
        self._shown, self._text = shown, ""

    def told(self, event: AgentEvent) -> Json:
        """What a page needs of ``event``."""
        told: Json = {"type": str(event.type), "record_seq": event.record_seq}
        if event.type != AgentEventType.STREAM_DELTA:
            self._text = "" if event.record_seq or event.type == AgentEventType.STREAM_STARTED else self._text
            return told
        self._text = (self._text + str(event.payload.get("text") or ""))[-LIVE_CHARS - BEFORE :]
        whole = len(self._text) - len(self._text.split()[-1]) if self._text.strip() and not self._text[-1].isspace() else len(self._text)
        start = max(0, whole - LIVE_CHARS)
        return told | {"text": self._shown.piece(self._text[:whole], start, whole - start)}


def _as_far_as(seen: str, before: str) -> int:
    """How far ``seen`` goes where it begins with ``before``, or with as much of that as is the same."""
    return len(before) if seen.startswith(before) else common_prefix(seen, before)


def common_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    """With how many equal items both begin."""
    for n, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return n
    return min(len(one), len(other))


def _passages(told: Any) -> Iterator[Passage]:
    match told:
        case Passage():
            yield told
        case dict():
            for value in cast("dict[str, Any]", told).values():
                yield from _passages(value)
        case list() | tuple():
            for value in cast("list[Any]", told):
                yield from _passages(value)
        case _:
            return


def _share(lengths: list[int]) -> int:
    """How far each text may be shown, so that all together stay within `ANSWER_CHARS`: short ones leave their rest to the long."""
    left = ANSWER_CHARS
    for n, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - n)
        if length > share:
            return share
        left -= length
    return ANSWER_CHARS
