"""Replacing a piece of a text, and saying what was replaced. Pure.

Texts are compared with line endings made equal, and changed in place: what is not replaced stays as it was, to the character.
"""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Sequence
from typing import NamedTuple

from power_loop.tools.builtin.text import clean

# A diff of more lines says nothing to a model and takes long to make.
MAX_DIFF_LINES = 2000


class EditError(ValueError):
    """The text cannot be changed so; the message says why and what to try."""


class Edited(NamedTuple):
    body: str
    spots: list[int]
    """The lines (1-based, of the old text) where replacements begin."""


def replace(body: str, old: str, new: str, *, everywhere: bool, newline: str) -> Edited:
    """``body`` with ``new`` for ``old``, which must stand there exactly once unless ``everywhere``. Raises `EditError`."""
    old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
    if not old:
        raise EditError("old_text is empty: give the text that is to be replaced, or use write_file")
    if old == new:
        raise EditError("old_text and new_text are the same: nothing would change")
    plain = _Plain(body)
    found = plain.places(old, overlapping=not everywhere)
    if not found:
        raise EditError("old_text does not stand in the file" + near_miss(plain.text, old))
    spots = [plain.text.count("\n", 0, at) + 1 for at in found[:100]]
    if len(found) > 1 and not everywhere:
        lines = ", ".join(map(str, spots[:10])) + (", …" if len(found) > 10 else "")
        raise EditError(f"old_text stands {len(found)} times in the file (lines {lines}): give more of its surroundings, or replace_all")
    put = new.replace("\n", newline)
    pieces: list[str] = []
    end = 0
    for at in found:
        pieces += (body[end : plain.original(at)], put)
        end = plain.original(at + len(old))
    return Edited("".join((*pieces, body[end:])), spots)


class _Plain:
    """A text with line endings made equal, and the way back to the original's places."""

    def __init__(self, body: str) -> None:
        self.text = body.replace("\r\n", "\n")
        self._carried: list[int] = []
        at = body.find("\r\n")
        while at >= 0:
            self._carried.append(at - len(self._carried))
            at = body.find("\r\n", at + 2)

    def original(self, at: int) -> int:
        return at + bisect.bisect_left(self._carried, at)

    def places(self, what: str, *, overlapping: bool) -> list[int]:
        places: list[int] = []
        at = self.text.find(what)
        while at >= 0:
            places.append(at)
            at = self.text.find(what, at + (1 if overlapping else len(what)))
        return places


def near_miss(text: str, old: str) -> str:
    """Where something like ``old`` stands, for a hint; '' when nothing does."""
    wanted = [" ".join(line.split()) for line in old.strip("\n").split("\n")]
    lines = text.split("\n")
    if len(lines) * len(wanted) > 2_000_000 or not any(wanted):
        return ": read the file again and copy the text exactly"
    squeezed = [" ".join(line.split()) for line in lines]
    for at in range(len(squeezed) - len(wanted) + 1):
        if squeezed[at] == wanted[0] and squeezed[at : at + len(wanted)] == wanted:
            return f": line {at + 1} differs from it in blanks only. Copy the text exactly as read_file shows it"
    longest = max(wanted, key=len)
    at = next((at for at, line in enumerate(squeezed) if longest in line), None)
    if at is None and len(squeezed) <= 20_000:
        close = difflib.get_close_matches(longest, squeezed, n=1, cutoff=0.8)
        at = squeezed.index(close[0]) if close else None
    if at is None:
        return ": read the file again and copy the text exactly"
    return f": line {at + 1} is like a part of it. Read the lines around it and copy the text exactly"


def unified_diff(before: str, after: str, name: str) -> str:
    """What changed, as a diff with three lines of context; a word instead where that would be too long."""
    old, new = lines_of(before), lines_of(after)
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    first, last_old, last_new = max(0, head - 3), len(old) - max(0, tail - 3), len(new) - max(0, tail - 3)
    if last_old - first > MAX_DIFF_LINES or last_new - first > MAX_DIFF_LINES:
        return f"lines {head + 1} to {len(old) - tail} changed; the diff is too long to show"
    changed = list(difflib.unified_diff(old[first:last_old], new[first:last_new], f"a/{name}", f"b/{name}", lineterm=""))
    return "\n".join(_shifted(line, first) for line in changed) or "only the end of the last line changed"


def lines_of(body: str) -> list[str]:
    """The lines without their endings."""
    lines = clean(body).replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many items both begin with."""
    return next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), min(len(one), len(other)))


def _shifted(line: str, by: int) -> str:
    """A hunk's header with line numbers of the whole file."""
    if not line.startswith("@@ "):
        return line
    ranges: list[str] = []
    for part in line.split()[1:3]:
        at, comma, count = part[1:].partition(",")
        ranges.append(f"{part[0]}{int(at) + by}{comma}{count}")
    return f"@@ {' '.join(ranges)} @@"
