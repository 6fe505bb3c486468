"""What a docstring says of a function and its parameters: Google, NumPy and Sphinx style, by their section marks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple


class Documentation(NamedTuple):
    """A docstring, taken apart."""

    description: str
    """What stands before the first section."""
    parameters: dict[str, str]


_PARAMETERS = "Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Other Parameters|Attributes"
_OTHERS = "Returns?|Yields?|Raises|Throws|Warns|Receives"

# Kept as text: `re` compiles and remembers them when the first docstring is read, which an import should not pay for.
_GOOGLE = rf"(?P<parameters>{_PARAMETERS})\s*:$|(?:{_OTHERS})\s*:(?:$|\s)"
_GOOGLE_ENTRY = r"\*{0,2}(?P<name>\w+)\s*(?:\([^)]*(?:\([^)]*\)[^)]*)*\))?\s*:\s*(?P<text>.*)$"
_NUMPY = rf"(?P<parameters>{_PARAMETERS})$|(?:{_OTHERS}|Notes|Examples|See Also|References|Warnings)$"
_NUMPY_ENTRY = r"\*{0,2}(?P<names>\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$"
_SPHINX = r":(?P<kind>\w+)(?:\s+(?P<argument>[^:]+))?:\s*(?P<text>.*)$"

_SPHINX_PARAMETERS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword", "ivar", "var"})
_SPHINX_OTHERS = frozenset({"type", "return", "returns", "rtype", "raise", "raises", "except", "yield", "yields", "vartype", "meta"})


def read_docstring(text: str | None) -> Documentation:
    """Take ``text`` apart; unknown shapes are description."""
    lines = inspect.cleandoc(text or "").splitlines()
    start = next((at for at in range(len(lines)) if _begins_section(lines, at)), len(lines))
    helps: dict[str, str] = {}
    for at in range(start, len(lines)):
        for name, words in _entries(lines, at):
            helps.setdefault(name, " ".join(" ".join(words).split()))
    return Documentation("\n".join(lines[:start]).strip(), {name: help for name, help in helps.items() if help})


def _begins_section(lines: list[str], at: int) -> bool:
    return bool(re.match(_GOOGLE, lines[at])) or _underlined(lines, at) is not None or _sphinx(lines[at]) is not None


def _underlined(lines: list[str], at: int) -> re.Match[str] | None:
    """A NumPy heading, which has a line of dashes below it."""
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return re.match(_NUMPY, lines[at].strip()) if len(below) > 2 and set(below) == {"-"} else None


def _sphinx(line: str) -> re.Match[str] | None:
    found = re.match(_SPHINX, line)
    return found if found and found["kind"] in _SPHINX_PARAMETERS | _SPHINX_OTHERS else None


def _entries(lines: list[str], at: int) -> Iterator[tuple[str, list[str]]]:
    """(parameter, its help) of the section that begins at this line, if one does."""
    if (heading := _underlined(lines, at)) and heading["parameters"]:
        yield from _numpy_entries(lines, at + 2)
    elif (heading := re.match(_GOOGLE, lines[at])) and heading["parameters"]:
        yield from _google_entries(lines, at + 1)
    elif (field := _sphinx(lines[at])) and field["kind"] in _SPHINX_PARAMETERS and field["argument"]:
        # The type may stand before the name: `:param int count: how many`.
        yield field["argument"].split()[-1].lstrip("*"), [field["text"], *_indented(lines, at + 1, 0)]


def _google_entries(lines: list[str], start: int) -> Iterator[tuple[str, list[str]]]:
    section = _indented(lines, start, 0)
    own = next((_indent(line) for line in section if line.strip()), 0)
    for at, line in enumerate(section):
        if _indent(line) == own and (entry := re.match(_GOOGLE_ENTRY, line.strip())):
            yield entry["name"], [entry["text"], *_indented(section, at + 1, own)]


def _numpy_entries(lines: list[str], start: int) -> Iterator[tuple[str, list[str]]]:
    for at in range(start, len(lines)):
        if _underlined(lines, at):
            return
        if _indent(lines[at]) == 0 and (entry := re.match(_NUMPY_ENTRY, lines[at])):
            words = _indented(lines, at + 1, 0)
            yield from ((name.strip().lstrip("*"), words) for name in entry["names"].split(","))


def _indented(lines: list[str], start: int, margin: int) -> list[str]:
    """The lines from ``start`` that stand further in than ``margin``, empty ones between them included."""
    end = next((at for at in range(start, len(lines)) if lines[at].strip() and _indent(lines[at]) <= margin), len(lines))
    return lines[start:end]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
