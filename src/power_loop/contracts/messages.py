"""What is said: message content, tool calls, and how long they roughly are.

Messages have the shape that the OpenAI chat wire made common: ``role``, ``content`` (text or a list of
blocks), ``tool_calls``, ``tool_call_id``, ``name``. Providers translate from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

Content = str | list[dict[str, Any]]
"""Text, or blocks: ``{"type": "text" | "image_url" | "attachment", …}``. Never changed in place once said."""

Message = dict[str, Any]
"""One message in the common shape. The system prompt is never one of them."""

# The names that 3.x had for it.
LoopMessage = AgentMessage = RuntimeMessage = Message

# In place of a result that a history from outside does not have.
MISSING = "[tool result missing]"

# What providers charge for a picture of middle size (platform.openai.com/docs/guides/images-vision, low and high detail).
IMAGE_TOKENS = 765
# Longer texts are judged by about this many of their characters: looking at each of ten million takes a second.
SAMPLE_CHARS = 4096


class MessageRole(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for."""

    id: str
    name: str
    arguments: str
    """The JSON text exactly as the model wrote it, so that it is rendered back byte for byte."""

    def to_message(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def text_of(content: Content | None) -> str:
    """The text of ``content``; other blocks than text leave nothing."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in content or () if block.get("type") == "text")


def readable(content: Content | None) -> str:
    """``content`` for people: its text, and the kind of each other block in its place."""
    if isinstance(content, str):
        return content
    blocks = content or ()
    return "\n".join(str(block.get("text", "")) if block.get("type") == "text" else f"[{block.get('type', 'block')}]" for block in blocks)


def is_content(given: Any) -> bool:
    """``given`` is text, or blocks."""
    return isinstance(given, str) or (isinstance(given, list) and all(isinstance(block, dict) for block in cast("list[Any]", given)))


def given_by_the_host(given: Any, roles: Sequence[str]) -> list[Message]:
    """Messages of ``roles`` that code of the host gives for a request, as they are. Raises `TypeError`, `ValueError`."""
    messages: list[Message] = list(given or ())
    for message in messages:
        if not isinstance(cast("Any", message), dict):
            raise TypeError(f"a message is a dict, not {type(message).__name__}")
        content, name = message.get("content"), message.get("name", "")
        if message.get("role") not in roles or not content or not is_content(content) or not isinstance(name, str):
            raise ValueError(f"a message of the roles {' and '.join(roles)} with content is wanted, not {message!r:.200}")
    return messages


def estimate_text_tokens(text: str, *, model: str | None = None) -> int:
    """Roughly how many tokens ``text`` has: a quarter of its Latin letters, each CJK character one, others half.

    With ``model`` (a name of OpenAI's) tiktoken counts them, where the extra ``tokens`` and its vocabulary are there.
    """
    if model is not None:
        from power_loop.contracts.token_counts import counted  # extra: tokens

        return known if (known := counted(text, model)) is not None else estimate_text_tokens(text)
    if text.isascii():
        return (len(text) + 3) // 4
    if len(text) > 2 * SAMPLE_CHARS:
        sample = text[:: len(text) // SAMPLE_CHARS | 1]
        return estimate_text_tokens(sample) * len(text) // len(sample)
    quarter = sum(1 for c in text if c < "\u0250")
    wide = sum(1 for c in text if "\u2e80" <= c <= "\uffef" or c >= "\U00020000")
    return (quarter + 3) // 4 + wide + (len(text) - quarter - wide + 1) // 2


def estimate_content_tokens(content: Content | None, model: str | None = None) -> int:
    """Roughly how many tokens ``content`` has; a picture counts `IMAGE_TOKENS`."""
    if content is None or isinstance(content, str):
        return estimate_text_tokens(content or "", model=model)
    return sum(estimate_text_tokens(str(b.get("text", "")), model=model) if b.get("type") == "text" else IMAGE_TOKENS for b in content)


def estimate_tokens(messages: Sequence[Mapping[str, Any]], *, model: str | None = None) -> int:
    """Roughly how many tokens ``messages`` have in a request; ``model`` as of `estimate_text_tokens`."""
    return sum(estimate_message_tokens(message, model) for message in messages)


def estimate_message_tokens(message: Mapping[str, Any], model: str | None = None) -> int:
    """Roughly how many tokens ``message`` has: its content, its calls, and four for the frame."""
    tokens = 4 + estimate_content_tokens(message.get("content"), model)
    if calls := message.get("tool_calls"):
        for call in calls:
            function: Mapping[str, Any] = call.get("function") or {}
            tokens += estimate_text_tokens(f"{function.get('name', '')}{function.get('arguments', '')}", model=model)
    return tokens
