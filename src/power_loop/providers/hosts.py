"""Models of the host's own, which may have nothing but ``complete``, for services that stand in front of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from inspect import isawaitable
from typing import Any

from power_loop.contracts.model import LLMRequest, LLMResponse, LLMService, LLMStreamChunk


def as_service(model: Any) -> LLMService:
    """``model`` with all that a service has. Raises `TypeError` for what is no model."""
    if isinstance(model, LLMService):
        return model
    if not _has(model, "complete") and not _has(model, "stream"):
        raise TypeError(f"a model is an object with an awaitable complete(request), not {type(model).__name__}; create_llm() makes one")
    return _OfHost(model)


class _OfHost(LLMService):
    def __init__(self, model: Any) -> None:
        self._own = model
        self.model: str | None = getattr(model, "model", None)
        self.provider_name: str | None = getattr(model, "provider_name", None)
        self.capabilities = getattr(model, "capabilities", None)

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        return await (self._own.complete if _has(self._own, "complete") else super().complete)(request, **callbacks)

    def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        return (self._own.stream if _has(self._own, "stream") else super().stream)(request)

    async def close(self) -> None:
        if _has(self._own, "close") and isawaitable(closing := self._own.close()):
            await closing


def _has(model: Any, method: str) -> bool:
    return callable(getattr(model, method, None))
