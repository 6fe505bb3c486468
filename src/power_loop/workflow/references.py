"""References and templates: how a document names a part of an earlier result, and how that part is reached. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from power_loop.contracts.documents import kind_of, shown

WORD = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
# A key is what can stand between dots; a key that holds dots or brackets cannot be referred to.
REFERENCE = WORD + r"(?:\.[^.\[\]{}\s]+|\[[0-9]{1,9}\])*"

_STEP = re.compile(r"\.([^.\[\]{}\s]+)|\[([0-9]{1,9})\]")
_TEMPLATE = re.compile(r"\{\{\s*(" + REFERENCE + r")\s*\}\}")


class Ref(NamedTuple):
    """A name, and the way from what it names to the part that is meant."""

    name: str
    path: tuple[str | int, ...]
    written: str


Part: TypeAlias = str | Ref
"""A template is text with references in it."""


def parse_ref(written: str) -> Ref:
    """``plan.topics[0]`` → the name ``plan`` and the path ``("topics", 0)``; the grammar has checked it."""
    name = re.match(WORD, written)
    if name is None:
        raise ValueError(f"{shown(written)} is no reference")
    steps = _STEP.finditer(written, name.end())
    return Ref(name.group(), tuple(key if (key := step[1]) is not None else int(step[2]) for step in steps), written)


def parse_template(text: str) -> list[Part]:
    """The text and the references in it, in order; what looks like no reference is text."""
    parts: list[Part] = []
    end = 0
    for found in _TEMPLATE.finditer(text):
        if found.start() > end:
            parts.append(text[end : found.start()])
        parts.append(parse_ref(found[1])._replace(written=found[0]))
        end = found.end()
    return parts if end == len(text) and parts else [*parts, text[end:]]


def reach(value: Any, path: Sequence[str | int], name: str) -> Any:
    """The part of ``value`` at ``path``. Raises `LookupError`, whose text says where the way ended and what is there instead."""
    came = name
    for key in path:
        if isinstance(key, int):
            value = _item(value, key, came)
            came = f"{came}[{key}]"
        else:
            value = _member(value, key, came)
            came = f"{came}.{key}"
    return value


def _item(value: Any, index: int, came: str) -> Any:
    if not isinstance(value, list):
        raise LookupError(f"{came} is {kind_of(value)}, which has no items")
    items = cast("list[Any]", value)
    if index >= len(items):
        raise LookupError(f"{came} has {len(items)} items, so there is no [{index}]")
    return items[index]


def _member(value: Any, key: str, came: str) -> Any:
    if not isinstance(value, Mapping):
        raise LookupError(f"{came} is {kind_of(value)}, which has no keys")
    members = cast("Mapping[str, Any]", value)
    if key not in members:
        has = ", ".join(list(members)[:10]) or "none"
        raise LookupError(f"{came} has no key {shown(key)}; its keys are: {has}")
    return members[key]


def as_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fill(parts: Sequence[Part], text_of: Callable[[Ref], str]) -> str:
    """The template's text, each reference replaced by ``text_of`` it. What is put in is not looked through again."""
    return "".join(part if isinstance(part, str) else text_of(part) for part in parts)
