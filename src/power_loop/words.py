"""What a caller may say: text, blocks, or a message dict; checked and made whole before anything is written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.attachments import with_data
from power_loop.contracts.codec import dumps
from power_loop.contracts.messages import Content

Said = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]
BLOCK_TYPES = ("text", "image_url", "attachment")
BLOCK_FORMS = (
    '{"type": "text", "text": …}, {"type": "image_url", "image_url": {"url": …}}, {"type": "attachment", "attachment": {"path": …}}'
)


Understood = tuple[Content, str | None]
"""(content, name of whoever says it)."""


async def content_said(said: Said) -> Understood:
    """What the caller says. Raises `ValueError` or `TypeError` for what no model could be sent.

    The bytes of attachments are read now, so that a file that moves later changes nothing.
    """
    if isinstance(said, str):
        return _text_said(said), None
    if isinstance(said, Mapping):
        role = said.get("role", "user")
        if role != "user":
            raise ValueError(f"a send says what the user says; role {role!r} cannot be sent (use 'user', or leave it out)")
        name = said.get("name")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a message is text, not {type(name).__name__}")
        if name is not None and not name.isprintable():
            raise ValueError(f"the name of a message is one line of text, not {name!r}")
        inner: Any = said.get("content", "")
        if isinstance(inner, Mapping):
            raise TypeError("the content of a message is text or a list of content blocks, not another message")
        return (await content_said(inner))[0], name
    given: Any = said  # whatever a caller without a type checker says
    if not isinstance(given, Sequence):
        raise TypeError(f"user_input is text, a list of content blocks or a message dict, not {type(given).__name__}")
    blocks: list[Any] = list(cast("Sequence[Any]", given))
    if not blocks:
        raise _empty()
    return [await _block(block) for block in blocks], None


def _text_said(said: str) -> str:
    """Raises `ValueError` where nothing is said."""
    if not said or said.isspace():
        raise _empty()
    return said


def _empty() -> ValueError:
    return ValueError("user_input is empty; say something, or use resume() to go on without a new word")


async def _block(block: Any) -> dict[str, Any]:
    if not isinstance(block, Mapping):
        raise TypeError(f"a content block is a dict with a type, not {type(block).__name__}")
    given = cast("Mapping[str, Any]", block)
    kind = given.get("type")
    if kind not in BLOCK_TYPES or not _is_whole(kind, given.get(cast("str", kind))):
        raise ValueError(f"content block {dict(given)!r:.200}: type must be one of {BLOCK_FORMS}")
    try:
        dumps(dict(given))
    except (TypeError, ValueError) as error:
        raise ValueError(f"content block of type {kind!r} is not JSON: {error}") from error
    return {**given, "attachment": await _whole(given["attachment"])} if kind == "attachment" else dict(given)


def _is_whole(kind: str, value: Any) -> bool:
    """A block says something: its text, where its picture is, or what file it means."""
    match kind, value:
        case ("text", str()) | ("image_url", {"url": str()}) | ("attachment", {"path": str()} | {"data": str()}):
            return True
        case _:
            return False


async def _whole(attachment: Mapping[str, Any]) -> dict[str, Any]:
    return await asyncio.get_running_loop().run_in_executor(None, with_data, attachment)
