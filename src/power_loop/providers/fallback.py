"""Several models as one: the next answers when one is overloaded, slow or out of reach."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from power_loop.contracts.llm_errors import is_transient_llm_error
from power_loop.contracts.log import log
from power_loop.contracts.model import (
    UNKNOWN_CAPABILITIES,
    DeltaCallback,
    LLMRequest,
    LLMResponse,
    LLMService,
    LLMStreamChunk,
    ModelCapabilities,
    ModelRestart,
    closable,
)
from power_loop.providers.hosts import as_service


class FallbackLLM(LLMService):
    """Asks ``services`` in order until one answers.

    ``fallback_on(error)`` says whether the next one is asked: by default after overload, timeouts, connection and 5xx errors,
    not after a refused request. A service that failed so is passed over for ``cooldown_s`` seconds. Once a delta was shown,
    the next one is only asked if ``request.on_restart`` takes the delta back. The reply names the model that answered, and
    ``response.debug["fallbacks"]`` the ones that did not: dicts of from_model, to_model, error_type.
    """

    def __init__(
        self,
        *services: LLMService,
        fallback_on: Callable[[BaseException], bool] = is_transient_llm_error,
        cooldown_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not services:
            raise ValueError("FallbackLLM needs at least one service")
        self.services: tuple[LLMService, ...] = tuple(map(as_service, services))
        self.model: str | None = self.services[0].model
        self.provider_name: str | None = self.services[0].provider_name
        self.capabilities: ModelCapabilities | None = common_capabilities(self.services)
        self._fallback_on, self._cooldown_s, self._clock = fallback_on, cooldown_s, clock
        self._resting_until: dict[int, float] = {}

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        course = _Course(self, request)
        while True:
            try:
                response = await course.service.complete(
                    course.asked(),
                    on_chunk_delta_text=course.noticing(on_chunk_delta_text),
                    on_chunk_think=course.noticing(on_chunk_think),
                    on_stream_end=on_stream_end,
                )
            except Exception as error:  # any service's failure
                await course.after(error)
            else:
                return course.signed(response)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        course = _Course(self, request)
        while True:
            try:
                async with aclosing(closable(course.service.stream(course.asked()))) as chunks:
                    async for chunk in chunks:
                        course.shown = course.shown or bool(chunk.delta_text or chunk.think)
                        yield chunk if chunk.response is None else replace(chunk, response=course.signed(chunk.response))
                return
            except Exception as error:  # any service's failure
                await course.after(error)

    async def close(self) -> None:
        for service in self.services:
            await service.close()

    def order(self) -> list[int]:
        """The places of the services as they are asked now: the fit ones first, then those that rest."""
        now = self._clock()
        return sorted(range(len(self.services)), key=lambda place: self._resting_until.get(place, now) > now)

    def passes_on(self, place: int, error: Exception) -> bool:
        """Whether another service is asked after ``error``; the failed one rests then."""
        if not self._fallback_on(error):
            return False
        self._resting_until[place] = self._clock() + self._cooldown_s
        return True


class _Course:
    """One request on its way through the services."""

    def __init__(self, owner: FallbackLLM, request: LLMRequest) -> None:
        self._owner, self._request = owner, request
        self._order = owner.order()
        self._at = 0
        self._passed: list[dict[str, str | None]] = []
        self.shown = False

    @property
    def service(self) -> LLMService:
        return self._owner.services[self._order[self._at]]

    def asked(self) -> LLMRequest:
        """The request as this service gets it: a model's name means the first service's."""
        if self._order[self._at] == 0 or self.service.model is None:
            return self._request
        return replace(self._request, model=None)

    def noticing(self, callback: DeltaCallback | None) -> DeltaCallback | None:
        if callback is None:
            return None

        def hear(text: str) -> Awaitable[None] | None:
            self.shown = True
            return callback(text)

        return hear

    async def after(self, error: Exception) -> None:
        """Go on to the next service, or raise ``error`` where there is none or it would not help."""
        on_restart = self._request.on_restart
        passes_on = self._owner.passes_on(self._order[self._at], error)
        if not passes_on or self._at + 1 == len(self._order) or (self.shown and on_restart is None):
            raise error
        failed, self._at, self.shown = self._model(), self._at + 1, False
        self._passed.append({"from_model": failed, "to_model": self._model(), "error_type": type(error).__name__})
        log.warning("model %s failed (%s); asking %s", failed, error, self._model())
        restart = ModelRestart(error, failed, self._model(), self._at, by_another=True)
        if on_restart is not None and (told := on_restart(restart)) is not None:
            await told

    def signed(self, response: LLMResponse) -> LLMResponse:
        """``response`` with the name of the model that answered."""
        response.model = response.model or self._model()
        if self._passed:
            response.debug = {**response.debug, "fallbacks": self._passed}
        return response

    def _model(self) -> str | None:
        return self.asked().model or self.service.model


def common_capabilities(services: Sequence[LLMService]) -> ModelCapabilities:
    """The first one's, with the smallest declared window: what is sent must fit whoever answers."""
    declared = [service.capabilities or UNKNOWN_CAPABILITIES for service in services]
    windows = [capabilities.context_window for capabilities in declared if capabilities.context_window is not None]
    return replace(declared[0], context_window=min(windows, default=None))
