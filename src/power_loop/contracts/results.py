"""What a handler gave, as the model reads it. Pure; cutting long text and keeping the whole is the runtime's business."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import Enum
from os import PathLike, fspath
from typing import Any, TypeGuard, cast

from power_loop.contracts.messages import Content
from power_loop.contracts.tool import ToolHandlerResult

Rendered = tuple[Content, bool, Mapping[str, Any] | None]
"""``(content, failed, data)``: what the model reads, whether the call failed, what only the event and the record get."""

# Their text is what everybody writes in JSON in their place.
_WRITTEN_AS_TEXT = frozenset({("uuid", "UUID"), ("decimal", "Decimal")})


def render_result(value: Any) -> Rendered:
    """``value`` as a tool result.

    Text stays as it is, nothing is empty text, content blocks stay blocks, anything else becomes JSON. What has no
    JSON is a failed result that names its type.
    """
    if type(value) is str:
        return value, False, None
    if isinstance(value, ToolHandlerResult):
        content, failed = _content(value.content)
        return content, failed or not value.ok, _data(value.data)
    return *_content(value), None


def _content(value: Any) -> tuple[Content, bool]:
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "", False
    if isinstance(value, str):
        return str.__str__(value), False
    try:
        text = json.dumps(_plain(value), ensure_ascii=False, default=_plain_or_refuse)
    except Exception as error:  # a foreign object's own way to become JSON may raise anything
        return f"Error: the tool ran, but its result of type {type(value).__name__} has no JSON: {error}", True
    return json.loads(text) if are_blocks(value) else text, False


def are_blocks(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """A list of content blocks, each whole; a list of other objects that happen to have a ``type`` is JSON."""
    return isinstance(value, list) and bool(cast("list[Any]", value)) and all(map(_is_block, cast("list[Any]", value)))


def _is_block(item: Any) -> bool:
    match item:
        case {"type": "text", "text": str()} | {"type": "image_url", "image_url": {"url": str()}}:
            return True
        case {"type": "attachment", "attachment": {"path": _} | {"data": _}}:
            return True
        case _:
            return False


def _plain(value: Any) -> Any:
    """``value`` one step nearer to JSON's own types; the same object where no step is known."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    foreign: Any = value  # forgets what is narrowed above
    match foreign:
        case type() | dict():
            return value
        case Enum():
            return foreign.value
        case Mapping():
            return dict(cast("Mapping[Any, Any]", foreign))
        case set() | frozenset():
            return sorted(cast("set[Any]", foreign), key=repr)
        case PathLike():
            return fspath(cast("PathLike[str]", foreign))
        case _:
            return _by_its_own_word(foreign)


def _by_its_own_word(value: Any) -> Any:
    """What a pydantic model, a date or a decimal says it is in JSON."""
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if callable(isoformat := getattr(value, "isoformat", None)):
        return isoformat()
    kind = value.__class__
    return str(value) if (kind.__module__, kind.__name__) in _WRITTEN_AS_TEXT else value


def _plain_or_refuse(value: Any) -> Any:
    plain = _plain(value)
    if plain is value:
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return plain


def _data(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``data`` as JSON can hold it. The call took effect, so what has no JSON is named here and fails nothing."""
    if not data:
        return None
    try:
        return json.loads(json.dumps(dict(data), ensure_ascii=False, skipkeys=True, default=_plain_or_named))
    except Exception as error:  # a foreign object's own way to become JSON may raise anything
        return {"unreadable": f"{type(error).__name__}: {error}"}


def _plain_or_named(value: Any) -> Any:
    plain = _plain(value)
    return f"<{type(value).__name__}>" if plain is value else plain
