"""One call of a model over HTTP, whatever the wire: attempts, lessons, the stream, the end of the stream.

Nothing is shared between calls but the client of the running event loop, the gate, and what was learned, which is
replaced and never changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any, cast

from power_loop.contracts.errors import LLMError
from power_loop.contracts.gate import Gate
from power_loop.contracts.live import last_chunk
from power_loop.contracts.log import log
from power_loop.contracts.model import DeltaCallback, LLMRequest, LLMResponse, LLMService, LLMStreamChunk, ModelCapabilities, ModelRestart
from power_loop.contracts.redact import redact
from power_loop.contracts.retry import LLMRetryPolicy
from power_loop.contracts.text import without_lone_surrogates
from power_loop.providers.ask import prepare
from power_loop.providers.capabilities import Ways
from power_loop.providers.clients import Closable, PerLoop
from power_loop.providers.errors import as_llm_error, error_from, refusal_in_body, refusal_of
from power_loop.providers.guard import REAL_CALLS
from power_loop.providers.settings import ChatConfig
from power_loop.providers.sse import event_data
from power_loop.providers.wire import DONE, HttpResponse, Sent, Wire, split_extra

# How long the bytes after the last event may take: a connection is only reused once its reply was read to the end.
DRAIN_S = 0.1


class Transport(LLMService):
    """A model behind HTTP. ``sleep`` (seconds) and ``chance`` (-1 to 1) are where waiting and jitter come from."""

    def __init__(
        self,
        config: ChatConfig,
        wire: Wire,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = lambda: random.uniform(-1, 1),
    ) -> None:
        self.config = config
        self.model: str | None = config.model
        self.provider_name: str | None = wire.provider
        self.capabilities: ModelCapabilities | None = config.capabilities
        self._wire = wire
        self._sleep, self._chance = sleep, chance
        self._retries = LLMRetryPolicy(max_attempts=config.max_retries + 1, total_timeout=None)
        self._clients: PerLoop[Closable] = PerLoop(wire.new_client)
        self._gate = Gate(config.max_concurrency)
        self._learned: dict[str, Ways] = {}

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        if on_chunk_delta_text is None and on_chunk_think is None and request.on_restart is None:
            # Nobody sees the deltas, so a reply that breaks off may begin again at any point.
            request = replace(request, on_restart=_nobody_minds)
        return await super().complete(
            request, on_chunk_delta_text=on_chunk_delta_text, on_chunk_think=on_chunk_think, on_stream_end=on_stream_end
        )

    async def stream(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        """The pieces of one reply, then a last one with the whole ``response``."""
        for attempt in count(1):
            shown = False
            try:
                async with aclosing(self._attempt(request)) as chunks:
                    async for chunk in chunks:
                        shown = shown or bool(chunk.delta_text or chunk.think)
                        yield chunk
                return
            except LLMError as error:
                wait_s = self._retries.wait_s(attempt, retry_after_s=error.retry_after_s, chance=self._chance())
                if not self._tries_again(request, error, attempt, shown) or wait_s > self.config.timeout_s:
                    raise
                again = self._tell_restart(request, error, attempt, wait_s)
                await self._sleep(wait_s)
                if again is not None:
                    await again

    async def chat(self, messages: Sequence[Mapping[str, Any]], system_prompt: str | None = None) -> str:
        return (await self.complete(self._plain_request([dict(m) for m in messages], system_prompt))).text

    async def predict_stream(self, prompt: str, system_prompt: str | None = None) -> AsyncGenerator[str]:
        async with aclosing(self.stream(self._plain_request([{"role": "user", "content": prompt}], system_prompt))) as chunks:
            async for chunk in chunks:
                if chunk.delta_text:
                    yield chunk.delta_text

    async def close(self) -> None:
        await self._clients.close()

    def _plain_request(self, messages: list[dict[str, Any]], system_prompt: str | None) -> LLMRequest:
        return LLMRequest(messages, system_prompt, temperature=self.config.temperature, max_tokens=self.config.max_tokens)

    # --- attempts ------------------------------------------------------------------------

    def _tries_again(self, request: LLMRequest, error: LLMError, attempt: int, shown: bool) -> bool:
        if not request.retry_in_transport or (shown and request.on_restart is None):
            return False
        return self._retries.tries_again(error, attempt)

    def _tell_restart(self, request: LLMRequest, error: LLMError, attempt: int, wait_s: float) -> Awaitable[None] | None:
        """The attempt is over; what is given back is awaited when the next one begins."""
        model = request.model or self.model
        log.info("%s: attempt %d failed, asking again: %s", self.provider_name, attempt, error)
        return request.on_restart(ModelRestart(error, model, model, attempt, wait_s)) if request.on_restart is not None else None

    async def _attempt(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        """One attempt: a place in line, an accepted request, its stream to the end."""
        REAL_CALLS.check(self._wire.provider, request.model or self.model)
        async with self._gate:
            sent, response = await self._accepted(request)
            try:
                async with aclosing(self._read(sent, response)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                await response.aclose()

    # --- sending -------------------------------------------------------------------------

    async def _accepted(self, request: LLMRequest) -> tuple[Sent, HttpResponse]:
        """The request in the form that the server took, and its answer."""
        model = request.model or self.config.model
        ways = self._learned.get(model) or Ways.declared(self.config.capabilities)
        tried = [ways]
        client = await self._client()
        while True:
            sent = await self._to_send(request, model, ways)
            try:
                response = await self._post(client, sent)
            except Exception as error:  # the SDK's, and what it lets through of its HTTP client
                lesson = self._wire.lesson(ways, refusal_of(error), sent)
                if lesson is None or lesson in tried:
                    raise as_llm_error(error, self._wire.provider) from error
                ways = lesson
                tried.append(ways)
                continue
            self._learn(model, tried)
            return sent, response

    async def _client(self) -> Closable:
        try:
            return await self._clients.get()
        except ImportError:
            raise
        except Exception as error:  # the SDK's constructor: an address or a proxy that it does not understand
            raise as_llm_error(error, self._wire.provider) from error

    async def _to_send(self, request: LLMRequest, model: str, ways: Ways) -> Sent:
        ask = await prepare(request, ways, self.config.capabilities)
        streams = self.config.capabilities.stream is not False
        extra, headers = split_extra(self.config.extra, request.extra)
        body = self._wire.body(ask, request, model=model, ways=ways, stream=streams) | extra
        if log.isEnabledFor(logging.DEBUG) and os.environ.get("POWER_LOOP_LLM_DEBUG"):
            log.debug("%s request: %s", self._wire.provider, json.dumps(redact(body), ensure_ascii=False))
        return Sent(request, ask, body, headers, streams)

    async def _post(self, client: Closable, sent: Sent) -> HttpResponse:
        try:
            return await self._wire.post(client, sent)
        except UnicodeEncodeError:
            return await self._wire.post(client, replace(sent, body=without_lone_surrogates(sent.body)))

    def _learn(self, model: str, tried: list[Ways]) -> None:
        if len(tried) > 1 and self._learned.get(model) != tried[-1]:
            self._learned[model] = tried[-1]
            log.warning("%s model %s refused a parameter; from now on it is asked with %s", self._wire.provider, model, tried[-1])

    # --- reading -------------------------------------------------------------------------

    async def _read(self, sent: Sent, response: HttpResponse) -> AsyncGenerator[LLMStreamChunk]:
        """The chunks of an answer, the last with the whole response. Raises `LLMError` where it breaks off."""
        reader, provider = self._wire.reader(sent), self._wire.provider
        in_one_piece = not sent.streams or "application/json" in response.headers.get("content-type", "")
        try:
            async with aclosing(_in_one_piece(response) if in_one_piece else _events(response)) as events:
                async for event in events:
                    if event.get("error"):
                        raise error_from(refusal_in_body(event), provider)
                    if (chunk := reader.whole(event) if in_one_piece else reader.feed(event)) is not None:
                        yield chunk
        except LLMError:
            raise
        except Exception as error:  # the HTTP client's, or a server's idea of the protocol
            if not reader.complete:
                raise LLMError(f"{provider}: the reply broke off: {type(error).__name__}: {error}", provider=provider) from error
        if not reader.complete:
            how = "the answer holds no reply" if in_one_piece else "the stream ended before the reply did"
            raise LLMError(f"{provider}: {how}", provider=provider)
        draft = reader.draft
        draft.model = draft.model or cast("str | None", sent.body.get("model"))
        whole = draft.response(answers_by_tool=sent.ask.answers_by_tool, parse_json=sent.request.parse_json)
        if whole.finish_reason == "error":
            raise LLMError(f"{provider}: the reply ended in an error", provider=provider)
        yield last_chunk(whole)


def _nobody_minds(_: ModelRestart) -> None:
    pass


async def _in_one_piece(response: HttpResponse) -> AsyncGenerator[Mapping[str, Any]]:
    yield cast("Mapping[str, Any]", json.loads(await response.aread()))


async def _events(response: HttpResponse) -> AsyncGenerator[Mapping[str, Any]]:
    """The events of a stream as JSON objects; `DONE` where the server says that no more will come."""
    async with aclosing(event_data(response.aiter_bytes())) as data:
        async for text in data:
            event = DONE if text.strip() == "[DONE]" else cast("Mapping[str, Any]", json.loads(text))
            yield event
            if event is DONE or event.get("type") == "message_stop":
                break
        try:
            async with asyncio.timeout(DRAIN_S):
                async for _ in data:
                    pass
        except TimeoutError:
            pass
