"""Several models under names of the host's: the model that a request asks for says which of them answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from power_loop.contracts.model import DeltaCallback, LLMRequest, LLMResponse, LLMService, LLMStreamChunk, ModelCapabilities, closable
from power_loop.providers.fallback import common_capabilities


class RoutedLLM(LLMService):
    """Asks the service that the request's ``model`` names: ``"cheap"``, or ``"cheap:some-model"`` for another of its models.

    Every other model name is one of the ``default`` service, which also answers requests that name none. So the agents of one
    loop can have providers of their own: ``AgentSpec(…, model="cheap")``.
    """

    def __init__(self, services: Mapping[str, LLMService], *, default: str) -> None:
        """Raises `ValueError` for a name with a colon in it, and a ``default`` that is none of the names."""
        if default not in services or any(":" in name or not name for name in services):
            raise ValueError(f"default={default!r} must be one of the names, which have no colon in them: {sorted(services)}")
        self.services: dict[str, LLMService] = dict(services)
        self.default: str = default
        self.model: str | None = services[default].model
        self.provider_name: str | None = services[default].provider_name
        self.capabilities: ModelCapabilities | None = common_capabilities([services[default], *services.values()])

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        service, asked = self._routed(request)
        response = await service.complete(
            asked, on_chunk_delta_text=on_chunk_delta_text, on_chunk_think=on_chunk_think, on_stream_end=on_stream_end
        )
        return _signed(response, service)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        service, asked = self._routed(request)
        async with aclosing(closable(service.stream(asked))) as chunks:
            async for chunk in chunks:
                yield chunk if chunk.response is None else replace(chunk, response=_signed(chunk.response, service))

    async def close(self) -> None:
        for service in self.services.values():
            await service.close()

    def _routed(self, request: LLMRequest) -> tuple[LLMService, LLMRequest]:
        name, _, model = (request.model or "").partition(":")
        if name not in self.services:
            return self.services[self.default], request
        return self.services[name], replace(request, model=model or None)


def _signed(response: LLMResponse, service: LLMService) -> LLMResponse:
    """``response`` with the name of the model that answered: by that it is priced."""
    response.model = response.model or service.model
    return response
