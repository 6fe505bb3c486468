"""Where a stream of AG-UI events stands: the ids of server-sent events, which a browser gives back when it reconnects.

The id behind the last AG-UI event of a record's event is that event's cursor. Elsewhere it has more: ``cursor:k`` says
that ``k`` AG-UI events of that event are still to come, and ``+…`` what is open: of a text that is being written how
many characters were shown, and their checksum, so that the record can be compared with it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from power_loop.contracts.json_text import writer

_ID = re.compile(
    r"(?P<seq>\d{1,18})(?:\.(?P<n>\d{1,9}))?(?::(?P<left>\d{1,9}))?"
    r"(?:\+(?P<call>[\w.]{0,40})~(?P<step>\d{0,9})~(?P<open>[smxtd]{0,5})~(?P<chars>\d{1,12})-(?P<crc>[0-9a-f]{1,8}))?"
)
# Behind every event of a record, like a bare number does in a cursor.
END = 1 << 62

# Line ends of Unicode that are none of server-sent events: many a client splits there all the same.
_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
_encode = writer(default=str)


def sse(event: Mapping[str, Any], id: str | None = None) -> bytes:
    """One server-sent event: the JSON of ``event``, under ``id``. Without one a browser keeps the id before."""
    data = _encode(event).translate(_LINE_ENDS).encode("utf-8", "replace")
    return (b"" if id is None else b"id: " + id.encode() + b"\n") + b"data: " + data + b"\n\n"


@dataclass
class Open:
    """What the interface was told of and not yet told the end of."""

    call_id: str = ""
    """Of the model call whose text is open, or was the last."""
    step: int | None = None
    """The round that is open as a step."""
    span: bool = False
    thought: bool = False
    text: bool = False
    done: bool = False
    """The text of the reply that is being told is out; its tool calls are not."""
    chars: int = 0
    """Characters of the open text that were shown."""
    crc: int = 0

    def show(self, piece: str) -> None:
        self.chars += len(piece)
        self.crc = checksum(piece, self.crc)

    def fits(self, whole: str) -> bool:
        """Whether ``whole`` begins with what was shown."""
        return len(whole) >= self.chars and checksum(whole[: self.chars]) == self.crc

    def token(self) -> str:
        flags = "s" * (self.step is not None) + "x" * self.span + "m" * self.thought + "t" * self.text + "d" * self.done
        return f"{self.call_id}~{'' if self.step is None else self.step}~{flags}~{self.chars}-{self.crc:x}"


@dataclass(frozen=True)
class Place:
    """A place in the stream, as an id names it."""

    cursor: str
    at: tuple[int, int]
    left: int
    """How many AG-UI events of the event behind the cursor are still to come."""
    open: Open | None
    """What was open, where the id stands inside of a text."""


def place_of(id: str) -> Place:
    """The place that ``id`` names. Raises `ValueError` for what is none of ours."""
    found = _ID.fullmatch(id)
    if found is None:
        raise ValueError(f"{id[:80]!r} is no id of this stream; give back the id of an event as it came")
    seq, n, left = found["seq"], found["n"], int(found["left"] or 0)
    cursor = seq if n is None else f"{seq}.{n}"
    where = int(seq), END if n is None else int(n)
    if found["open"] is None:
        return Place(cursor, where, left, None)
    flags, step = found["open"], found["step"]
    shown = Open(
        found["call"],
        int(step) if step else None,
        "x" in flags,
        "m" in flags,
        "t" in flags,
        "d" in flags,
        int(found["chars"]),
        int(found["crc"], 16),
    )
    return Place(cursor, where, left, shown)


def checksum(text: str, so_far: int = 0) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), so_far)
