"""What a transport is told about its service: address, key, model, and how to call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from power_loop.contracts.model import UNKNOWN_CAPABILITIES, ModelCapabilities


@dataclass(kw_only=True)
class ChatConfig:
    """The settings that both wires share; ``repr`` hides the key."""

    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout_s: float = 180.0
    """For connecting, and for each wait for more bytes; a stream that keeps flowing may take longer."""
    max_tokens: int | None = 8000
    """For `predict`, `chat` and `predict_stream`; a request that is given says itself what it wants."""
    temperature: float | None = 0.0
    """As ``max_tokens``."""
    max_retries: int = 3
    """Further attempts of a transient failure, where no retry policy above counts them."""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Merged into every request body, last; ``extra_headers`` in it become headers."""
    capabilities: ModelCapabilities = UNKNOWN_CAPABILITIES
    max_concurrency: int | None = None
    """Calls in flight, first come first served; None is no limit."""

    def __post_init__(self) -> None:
        missing = [name for name in ("base_url", "api_key", "model") if not getattr(self, name)]
        if missing:
            raise ValueError(f"{type(self).__name__} needs {', '.join(missing)}")


@dataclass(kw_only=True)
class OpenAICompatibleChatConfig(ChatConfig):
    """An OpenAI-compatible chat completions server."""

    organization: str | None = None
    stream_resume_on_error: bool = False
    """Have a text-only reply that broke off continued, instead of asking again from the start."""
    stream_max_restarts: int = 2


@dataclass(kw_only=True)
class AnthropicChatConfig(ChatConfig):
    """A server of the Anthropic Messages protocol."""

    prompt_cache: bool = True
    """Set ``cache_control`` marks at the stable borders of a request."""


def with_context_window(capabilities: ModelCapabilities | None, context_window: int | None) -> ModelCapabilities:
    """``capabilities`` with the window that was declared beside them."""
    declared = capabilities or UNKNOWN_CAPABILITIES
    return declared if context_window is None else replace(declared, context_window=context_window)
