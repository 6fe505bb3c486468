"""The front matter of a text file: what stands between two lines of ``---`` on top of it.

``key: value`` is read here, with quotes, lists on one line, folded text, and one level of keys below a key. Anything more
is left to pyyaml where that is installed.
"""

from __future__ import annotations

import textwrap
from importlib import import_module
from typing import Any, cast

FENCE = "---"
# How a block of text begins, and whether its lines are joined.
BLOCKS = {"|": False, "|-": False, "|+": False, ">": True, ">-": True, ">+": True}
# What begins a value that means more than its text says.
BEYOND = ("{", "&", "*", "!", "%", "@", "`", "- ", "? ")

Fields = dict[str, Any]


class TooMuch(ValueError):
    """Only a whole YAML parser can tell what this means."""


def split(text: str) -> tuple[Fields, str]:
    """(the fields, the text below). Raises `ValueError` where there is no front matter, or it cannot be read."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != FENCE:
        raise ValueError("it does not begin with a line of ---")
    end = next((at for at, line in enumerate(lines) if at and line.rstrip() == FENCE), None)
    if end is None:
        raise ValueError("its front matter has no closing line of ---")
    try:
        fields = simple_fields(lines[1:end])
    except TooMuch as error:
        fields = by_yaml("\n".join(lines[1:end]), error)
    return fields, "\n".join(lines[end + 1 :]).strip("\n")


def simple_fields(lines: list[str]) -> Fields:
    """Raises `TooMuch`."""
    fields, at = Fields(), 0
    while at < len(lines):
        line, at = lines[at], at + 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if line[0].isspace() or not colon or not key.strip() or (value and not value[0].isspace()):
            raise TooMuch(f"{line!r} is no 'key: value'")
        below = at
        while below < len(lines) and (not lines[below].strip() or lines[below][0].isspace() or lines[below].startswith("- ")):
            below += 1
        fields[_scalar(key.strip())], at = _value(value.strip(), lines[at:below]), below
    return fields


def _value(value: str, below: list[str]) -> Any:
    if value in BLOCKS:
        text = textwrap.dedent("\n".join(below)).strip("\n")
        return " ".join(text.split()) if BLOCKS[value] else text
    content = [line for line in below if line.strip() and not line.lstrip().startswith("#")]
    if not content:
        return _list(value[1:-1]) if value.startswith("[") and value.endswith("]") else _scalar(value)
    if value:
        raise TooMuch(f"lines follow below {value!r}")
    if all(line.lstrip().startswith("- ") for line in content):
        return [_scalar(line.lstrip()[2:].strip()) for line in content]
    return simple_fields(textwrap.dedent("\n".join(content)).split("\n"))


def _list(inner: str) -> list[str]:
    if any(sign in inner for sign in "\"'[]{}"):
        raise TooMuch(f"the list [{inner}] is not a simple one")
    return [part.strip() for part in inner.split(",") if part.strip()]


def _scalar(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        inner = value[1:-1]
        if value[0] == "'" and "'" not in inner.replace("''", ""):
            return inner.replace("''", "'")
        if value[0] == '"' and '"' not in inner and "\\" not in inner:
            return inner
        raise TooMuch(f"{value} is quoted in a way that is not simple")
    if value.startswith((*BEYOND, "[", '"', "'", "|", ">")):
        raise TooMuch(f"{value!r} is no simple value")
    return value.partition(" #")[0].rstrip() if " #" in value else value


def by_yaml(text: str, why: TooMuch) -> Fields:
    """The fields by pyyaml. Raises `ValueError` when it is not installed, or cannot read them either."""
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ValueError(f"its front matter is more than 'key: value' ({why}): pip install 'power-loop[skills]' reads it") from why
    try:
        fields = yaml.safe_load(text)
    except Exception as error:  # yaml's own; also whatever it meets in a value that a tag calls a date, a number or a truth
        raise ValueError(f"its front matter is no YAML: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise ValueError("its front matter is no list of 'key: value'")
    return cast("Fields", fields)
