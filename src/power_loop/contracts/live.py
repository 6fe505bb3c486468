"""A stream of chunks for models that have `complete` alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from power_loop.contracts.model import LLMRequest, LLMResponse, LLMStreamChunk


def last_chunk(response: LLMResponse) -> LLMStreamChunk:
    """What a stream ends with."""
    return LLMStreamChunk(
        tool_calls=response.tool_calls,
        token_usage=response.token_usage,
        is_final=True,
        finish_reason=response.finish_reason,
        response=response,
    )


async def chunks_of(complete: Callable[..., Awaitable[LLMResponse]], request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
    """The deltas that ``complete`` tells its callbacks, as they come, then the whole; one piece, where it tells none.

    Leaving early cancels the call.
    """
    pieces: asyncio.Queue[LLMStreamChunk | None] = asyncio.Queue()
    told = False

    def hear(piece: str) -> None:
        nonlocal told
        told = True
        pieces.put_nowait(LLMStreamChunk(piece))

    def hear_thought(piece: str) -> None:
        pieces.put_nowait(LLMStreamChunk(think=piece))

    async def call() -> LLMResponse:
        try:
            return await complete(request, on_chunk_delta_text=hear, on_chunk_think=hear_thought)
        finally:
            pieces.put_nowait(None)

    under_way = asyncio.create_task(call())
    try:
        while (chunk := await pieces.get()) is not None:
            yield chunk
        response = await under_way
        if response.text and not told:
            yield LLMStreamChunk(response.text)
        yield last_chunk(response)
    finally:
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)
