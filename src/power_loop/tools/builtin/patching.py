"""Unified patches: read strictly, applied exactly or not at all. Pure.

The counts of a hunk's header decide what belongs to it, so that lines which begin with ``--`` or ``++`` are content.
A hunk stands where its header says; where that does not fit, or it has no numbers, at the only place that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(?: .*)?")
# What stands around hunks and says nothing that matters here.
_PADDING = re.compile(
    r"\s*|diff .*|index .*|Index: .*|={3,}|\*\*\* (?:Begin|End) Patch|(?:old|new) mode \d+|similarity index .*|```\w*|\*\*\* End of File"
)
_NAMES = re.compile(r"(?:---|\+\+\+|\*\*\* Update File:) (.*)")
_FORBIDDEN = re.compile(r"\*\*\* (?:Add|Delete|Move).*|(?:new|deleted) file mode.*|rename .*|copy .*|GIT binary patch|Binary files .*")
_NO_NEWLINE = "\\"


class PatchError(ValueError):
    """The patch is malformed or does not fit; nothing was changed. The text says where and what to try."""


@dataclass
class Hunk:
    """What is taken out of a file and put in its place, with the lines around it."""

    at_line: int
    """Where it stands in the patch, for messages."""
    start: int | None = None
    """0-based line of the old text, when the header says so."""
    anchor: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(``' '``, ``'-'`` or ``'+'``, text)."""
    old_unended: bool = False
    """It says that its last old line has no newline."""
    new_unended: bool = False

    @property
    def old(self) -> list[str]:
        return [text for sign, text in self.lines if sign != "+"]


# --- reading -----------------------------------------------------------------------------------------


def read_patch(patch: str, is_same_file: Callable[[str], bool]) -> list[Hunk]:
    """The hunks of a patch for one file. Raises `PatchError`.

    ``is_same_file`` tells whether a name in a file header means the file that is to be patched.
    """
    lines = patch.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    hunks: list[Hunk] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("@@"):
            hunk = _begun(line, at + 1)
            at = _counted(hunk, lines, at) if hunk.start is not None else _anchored(hunk, lines, at + 1)
            hunks.append(hunk)
        else:
            _check_between(line, at + 1, lines[at - 1] if at else "", is_same_file, after_hunk=bool(hunks))
            at += 1
    if not hunks:
        raise PatchError("the patch has no hunk: each begins with a line '@@ -start,count +start,count @@' or '@@ anchor'")
    return hunks


def _begun(line: str, number: int) -> Hunk:
    if header := HEADER.fullmatch(line):
        first, count = int(header[1]), int(header[2] or 1)
        # Counted from 1; a hunk that takes nothing out names the line that it follows.
        return Hunk(number, first - 1 if count else first)
    if re.match(r"@@ -\d", line):
        raise PatchError(f"line {number} of the patch is a malformed header: {line!r:.80}; it looks like '@@ -3,7 +3,8 @@'")
    return Hunk(number, anchor=re.sub(r"\s*@@\s*$", "", line[2:]).strip())


def _counted(hunk: Hunk, lines: Sequence[str], at: int) -> int:
    """Take as many lines as the header at ``at`` counts; the index of the line after them."""
    header = HEADER.fullmatch(lines[at])
    assert header is not None
    old, new = int(header[2] or 1), int(header[4] or 1)
    wrong = f"the counts of the hunk at line {at + 1} of the patch are wrong"
    at += 1
    while old or new or (at < len(lines) and lines[at].startswith(_NO_NEWLINE)):
        if at == len(lines):
            raise PatchError(f"{wrong}: the patch ends, but {old} old and {new} new lines are still to come")
        sign = _take(hunk, lines[at], at + 1)
        old, new = old - (sign in " -"), new - (sign in " +")
        if old < 0 or new < 0:
            raise PatchError(f"{wrong}: line {at + 1} is one {'old' if old < 0 else 'new'} line too many")
        at += 1
    if at < len(lines) and lines[at][:1] in (" ", "+", "-") and not _begins_file(lines, at):
        raise PatchError(f"{wrong}: line {at + 1} ({lines[at]!r:.60}) comes after the last line that they count")
    return at


def _begins_file(lines: Sequence[str], at: int) -> bool:
    return lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")


def _anchored(hunk: Hunk, lines: Sequence[str], at: int) -> int:
    while at < len(lines) and not lines[at].startswith(("@@", "*** ")):
        _take(hunk, lines[at], at + 1)
        at += 1
    return at


def _take(hunk: Hunk, line: str, number: int) -> str:
    """Add one line to the hunk; its sign, or a marker's ``\\``."""
    sign = line[:1] or " "
    if sign == _NO_NEWLINE:
        if not hunk.lines:
            raise PatchError(f"line {number} of the patch follows no line that it could speak of")
        last = hunk.lines[-1][0]
        hunk.old_unended |= last in " -"
        hunk.new_unended |= last in " +"
    elif sign in " +-":
        hunk.lines.append((sign, line[1:]))
    else:
        raise PatchError(f"line {number} of the patch ({line!r:.60}) begins with none of ' ', '-' and '+'")
    return sign


def _check_between(line: str, number: int, before: str, is_same_file: Callable[[str], bool], *, after_hunk: bool) -> None:
    """Lines outside of hunks may name the file that is patched, and nothing else of weight."""
    if _FORBIDDEN.fullmatch(line):
        raise PatchError(f"line {number} of the patch ({line!r:.80}) asks for more than changing one text file; use another tool for that")
    if named := _NAMES.fullmatch(line):
        name = named[1].split("\t")[0].strip()
        if name == "/dev/null":
            raise PatchError("apply_patch neither creates nor deletes files; use write_file for a new one")
        if not is_same_file(name):
            raise PatchError(f"line {number} of the patch names another file ({name!r:.80}); give each file its own call")
    elif not _PADDING.fullmatch(line):
        where = "after a hunk" if after_hunk else "before the first hunk"
        raise PatchError(f"line {number} of the patch ({line!r:.60}) belongs to nothing: {where} only file headers may stand")


# --- applying ----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One line of a file, with its own ending; '' at the end of a file without a final newline."""

    text: str
    ending: str = ""


def lines_of(body: str) -> list[Line]:
    return [
        Line(line[: -len(ending)], ending) if (ending := _ending(line)) else Line(line) for line in re.findall(r"[^\n]*\n|[^\n]+", body)
    ]


def _ending(line: str) -> str:
    return "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""


def apply(body: str, hunks: Sequence[Hunk], newline: str) -> str:
    """``body`` with all ``hunks`` applied; untouched lines stay as they are. Raises `PatchError` when one does not fit."""
    old = lines_of(body)
    trimmed = [line.text.rstrip() for line in old]
    new: list[Line] = []
    done = 0
    ended = not old or old[-1].ending != ""
    for number, hunk in enumerate(hunks, 1):
        at = _place_of(hunk, trimmed, done, f"hunk {number} (line {hunk.at_line} of the patch)")
        new += old[done:at]
        done = at + len(hunk.old)
        if done == len(old):
            ended = _final_newline(hunk, ended, number)
        elif hunk.old_unended or hunk.new_unended:
            raise PatchError(f"hunk {number} says that it reaches the end of the file, but the file goes on after it")
        new += _changed(hunk, old[at:done], newline)
    return _joined([*new, *old[done:]], ended, newline)


def _changed(hunk: Hunk, replaced: Sequence[Line], newline: str) -> Iterator[Line]:
    """What stands in the place of ``replaced``: context as the file has it, new lines as the patch has them."""
    kept = iter(replaced)
    for sign, text in hunk.lines:
        if sign == "+":
            yield Line(text, newline)
        else:
            line = next(kept)
            if sign == " ":
                yield line


def _final_newline(hunk: Hunk, ended: bool, number: int) -> bool:
    """Does the file end with a newline after a hunk that reaches its end? As before, unless the hunk says otherwise."""
    if hunk.old_unended and ended:
        raise PatchError(f"hunk {number} says that the file has no final newline, but it has one")
    if hunk.new_unended:
        return False
    return True if hunk.old_unended else ended


def _joined(lines: list[Line], ended: bool, newline: str) -> str:
    text = [line.text + (line.ending or newline) for line in lines[:-1]]
    text += [line.text + ((line.ending or newline) if ended else "") for line in lines[-1:]]
    return "".join(text)


def _place_of(hunk: Hunk, trimmed: Sequence[str], done: int, what: str) -> int:
    """The index of the line where the hunk stands, at or after ``done``. Raises `PatchError`."""
    wanted = [line.rstrip() for line in hunk.old]
    said = hunk.start
    if said is not None and done <= said <= len(trimmed) and trimmed[said : said + len(wanted)] == wanted:
        return said
    if not wanted:
        return _after_anchor(hunk, trimmed, done, what)
    places = [at for at in range(done, len(trimmed) - len(wanted) + 1) if trimmed[at : at + len(wanted)] == wanted]
    if hunk.anchor:
        anchors = _anchors(hunk, trimmed, done, what)
        places = sorted({next(at for at in places if at >= anchor) for anchor in anchors if places and places[-1] >= anchor})
    if len(places) == 1:
        return places[0]
    if places:
        lines = ", ".join(str(at + 1) for at in places[:10])
        raise PatchError(f"{what} fits in several places (lines {lines}): give more context lines, or right line numbers")
    raise PatchError(f"{what} does not fit: {_missing(wanted, trimmed, done)}. Read the file again and make the patch anew")


def _anchors(hunk: Hunk, trimmed: Sequence[str], done: int, what: str) -> list[int]:
    anchors = [at for at in range(done, len(trimmed)) if trimmed[at].strip() == hunk.anchor]
    anchors = anchors or [at for at in range(done, len(trimmed)) if hunk.anchor in trimmed[at]]
    if not anchors:
        raise PatchError(f"{what}: no line reads {hunk.anchor!r:.80}")
    return anchors


def _after_anchor(hunk: Hunk, trimmed: Sequence[str], done: int, what: str) -> int:
    """Where a hunk goes that only adds lines."""
    if hunk.start is not None:
        raise PatchError(f"{what} follows line {hunk.start}, but there are {len(trimmed)} lines, {done} of them before the hunk")
    if not trimmed:
        return 0
    anchors = _anchors(hunk, trimmed, done, what) if hunk.anchor else []
    if len(anchors) != 1:
        raise PatchError(f"{what} only adds lines, and its place is not clear: give context lines around them, or line numbers")
    return anchors[0] + 1


def _missing(wanted: Sequence[str], trimmed: Sequence[str], done: int) -> str:
    """Which line keeps the hunk from fitting, for the place that fits best at its beginning."""
    absent = next((line for line in wanted if line not in trimmed[done:]), None)
    if absent is not None:
        return f"the file has no line {absent!r:.80} after line {done}"
    return f"its lines stand in the file, but not one after the other after line {done}"
