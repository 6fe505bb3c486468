"""Continue a text-only reply that broke off, by showing the model what it had said."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from power_loop.contracts.errors import LLMError
from power_loop.contracts.llm_errors import is_transient_llm_error
from power_loop.contracts.model import LLMRequest, LLMStreamChunk

Attempt = Callable[[LLMRequest], AsyncGenerator[LLMStreamChunk]]

_GO_ON = "The connection broke while you spoke. Go on exactly where your text ends; repeat nothing and do not comment on this."


async def resumed(attempt: Attempt, request: LLMRequest, restarts: int) -> AsyncGenerator[LLMStreamChunk]:
    """One reply out of up to ``restarts + 1`` attempts. A reply with tool calls is not continued: its error is raised."""
    said, calls_seen = "", False
    while True:
        try:
            async with aclosing(attempt(_continued(request, said))) as chunks:
                earlier = said
                async for chunk in chunks:
                    said += chunk.delta_text
                    calls_seen = calls_seen or bool(chunk.delta_tool_calls)
                    yield _with_beginning(chunk, earlier)
            return
        except LLMError as error:
            if calls_seen or not said or restarts <= 0 or not is_transient_llm_error(error):
                raise
            restarts -= 1


def _continued(request: LLMRequest, said: str) -> LLMRequest:
    if not said:
        return request
    return replace(request, messages=[*request.messages, {"role": "assistant", "content": said}, {"role": "user", "content": _GO_ON}])


def _with_beginning(chunk: LLMStreamChunk, said: str) -> LLMStreamChunk:
    if chunk.response is None or not said:
        return chunk
    text = said + chunk.response.content_text
    return replace(chunk, response=replace(chunk.response, content_text=text, raw_text=text))
