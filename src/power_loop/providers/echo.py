"""A model that lives offline: it says what it heard. For demos, guides, tests and programs without a key.

``call NAME {json}`` on a line of the last user message has it call that tool, where it is offered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from power_loop.contracts.live import last_chunk
from power_loop.contracts.messages import Message, estimate_text_tokens, estimate_tokens, text_of
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMService, LLMStreamChunk, LLMTokenUsage, ModelCapabilities
from power_loop.providers.ask import tool_name

_CALL = re.compile(r"^\s*call\s+([\w-]+)\s*(\{.*\})?\s*$", re.MULTILINE)

_WORDS = re.compile(r"\s*\S+|\s+")


class EchoLLM(LLMService):
    """Answers ``reply``, or ``echo: `` and the last user text; waits ``sleep_s`` seconds before it speaks."""

    provider_name: str | None = "echo"
    capabilities: ModelCapabilities | None = ModelCapabilities()

    def __init__(
        self,
        reply: str | None = None,
        *,
        sleep_s: float = 0.0,
        model: str = "echo",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.reply = reply
        self.sleep_s = sleep_s
        self.model: str | None = model
        self._sleep = sleep

    async def stream(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        if self.sleep_s:
            await self._sleep(self.sleep_s)
        response = self._answer(request)
        for word in words(response.content_text):
            yield LLMStreamChunk(word)
        yield last_chunk(response)

    def _answer(self, request: LLMRequest) -> LLMResponse:
        last = request.messages[-1] if request.messages else {}
        heard = text_of(last.get("content"))
        calls = _calls(request, last, heard)
        text = "" if calls else self.reply or f"echo: {heard}"
        usage = _usage(request, text, calls)
        reason = "tool_calls" if calls else "stop"
        model = request.model or self.model
        return LLMResponse(raw_text=text, content_text=text, tool_calls=calls, token_usage=usage, finish_reason=reason, model=model)


def words(text: str) -> list[str]:
    """``text`` in pieces that join to it again: one for each word."""
    return _WORDS.findall(text)


def _calls(request: LLMRequest, last: Message, heard: str) -> list[dict[str, Any]]:
    """The calls that the last user text asks for, of tools that are offered."""
    if last.get("role") != "user" or request.tool_choice == "none":
        return []
    offered = {tool_name(tool) for tool in request.tools or ()}
    asked = [(name, arguments) for name, arguments in _CALL.findall(heard) if name in offered]
    place = len(request.messages)
    return [
        {"id": f"call_{place}_{nth}", "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}
        for nth, (name, arguments) in enumerate(asked)
    ]


def _usage(request: LLMRequest, text: str, calls: list[dict[str, Any]]) -> LLMTokenUsage:
    prompt = estimate_tokens(request.messages) + estimate_text_tokens(request.system_prompt or "")
    said = text + "".join(call["function"]["arguments"] for call in calls)
    completion = max(1, estimate_text_tokens(said))
    return LLMTokenUsage(prompt=prompt, completion=completion, total=prompt + completion, estimated=True)
