"""What the two wires take as messages, as their providers document it: for tests that make many histories.

Stricter than any one server: what is found here is refused by some. Sources: platform.openai.com/docs/api-reference/chat
(messages, tool_calls, tool_call_id) and docs.claude.com/en/api/messages (alternating roles, tool_use and tool_result).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

Message = Mapping[str, Any]

ROLES = ("user", "assistant", "tool", "system")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def openai_problems(messages: Sequence[Message]) -> list[str]:
    """What an OpenAI-compatible server refuses in ``messages``, with the place of each."""
    found: list[str] = []
    open_ids: list[str] = []
    seen: set[str] = set()
    for at, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            found.append(f"{at}: role {role!r}")
        if role == "tool":
            found += _result(at, message, open_ids)
            continue
        if open_ids:
            found.append(f"{at}: stands before the results of {open_ids}")
            open_ids = []
        found += [f"{at}: {problem}" for problem in _content(content, may_be_empty=bool(message.get("tool_calls")))]
        found += [f"{at}: {problem}" for problem in _calls(message, seen)]
        open_ids = [str(call.get("id")) for call in message.get("tool_calls") or ()]
    if open_ids:
        found.append(f"the calls {open_ids} have no result")
    if not any(message.get("role") == "user" for message in messages):
        found.append("no user speaks")
    return found


def _result(at: int, message: Message, open_ids: list[str]) -> Iterator[str]:
    call_id = message.get("tool_call_id")
    if call_id not in open_ids:
        yield f"{at}: answers {call_id!r}, open are {open_ids}"
    elif open_ids[0] != call_id:
        yield f"{at}: answers {call_id!r} before {open_ids[0]!r}"
    if call_id in open_ids:
        open_ids.remove(cast("str", call_id))
    if not isinstance(message.get("content"), (str, list)):
        yield f"{at}: a result without content"


def _content(content: Any, *, may_be_empty: bool) -> Iterator[str]:
    if isinstance(content, str):
        if not content.strip() and not may_be_empty:
            yield "empty content"
    elif isinstance(content, list):
        blocks = cast("list[Any]", content)
        if not blocks and not may_be_empty:
            yield "no blocks"
        yield from (f"a block of no type: {block!r}" for block in blocks if not isinstance(block, Mapping) or "type" not in block)
    elif not (content is None and may_be_empty):
        yield f"content {content!r}"


def _calls(message: Message, seen: set[str]) -> Iterator[str]:
    calls = message.get("tool_calls")
    if calls is not None and (message.get("role") != "assistant" or not calls):
        yield "tool_calls stand in an assistant's message, and are not empty"
    for call in calls or ():
        function = cast("Message", call.get("function") or {})
        if not call.get("id") or call["id"] in seen:
            yield f"the call id {call.get('id')!r} is empty, or was used before"
        seen.add(call.get("id"))
        if call.get("type") != "function" or not NAME.fullmatch(str(function.get("name"))):
            yield f"no call of a function: {call!r}"
        if not isinstance(function.get("arguments"), str):
            yield f"arguments are a text, not {function.get('arguments')!r}"


def anthropic_problems(body: Mapping[str, Any]) -> list[str]:
    """What the Anthropic Messages API refuses in the ``body`` of a request."""
    found: list[str] = []
    messages: Sequence[Message] = body.get("messages") or ()
    expected = "user"
    uses: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if role != expected:
            found.append(f"{at}: {role!r} speaks where {expected!r} has to")
        expected = "assistant" if role == "user" else "user"
        blocks: list[Mapping[str, Any]] = _blocks(message.get("content"))
        if not blocks:
            found.append(f"{at}: no content")
        found += [f"{at}: {problem}" for problem in _told(blocks)]
        results = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
        if role == "user" and results != uses:
            found.append(f"{at}: has the results {results} for the calls {uses}")
        if role == "user" and any(block.get("type") == "tool_result" for block in blocks[len(results) :]):
            found.append(f"{at}: a result stands behind other content")
        uses = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"] if role == "assistant" else []
    if uses:
        found.append(f"the calls {uses} have no result")
    if not messages:
        found.append("no messages")
    return found


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _told(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block.get("type") == "text" and not str(block.get("text", "")).strip():
            yield "an empty text block"
        if block.get("type") == "tool_use" and not isinstance(block.get("input"), Mapping):
            yield f"the input of a call is an object, not {block.get('input')!r}"
