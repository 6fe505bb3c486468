"""The door to models: providers, configuration, fallback, recording. Importing a name loads only its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from power_loop.contracts.doors import door

if TYPE_CHECKING:
    from power_loop.contracts.digest import request_digest
    from power_loop.contracts.llm_errors import is_permanent_llm_error, is_transient_llm_error
    from power_loop.contracts.model import (
        LLMRequest,
        LLMResponse,
        LLMService,
        LLMStreamChunk,
        LLMTokenUsage,
        ModelCapabilities,
        ModelRestart,
    )
    from power_loop.providers.anthropic.model import AnthropicLLM
    from power_loop.providers.config import LLMProviderConfig
    from power_loop.providers.echo import EchoLLM
    from power_loop.providers.fallback import FallbackLLM
    from power_loop.providers.open import create_llm, create_llm_service_from_config, create_llm_service_from_env
    from power_loop.providers.openai.model import OpenAICompatibleLLM
    from power_loop.providers.recording import RecordingLLM
    from power_loop.providers.replay import ReplayLLM, ReplayMiss
    from power_loop.providers.routed import RoutedLLM
    from power_loop.providers.settings import AnthropicChatConfig, OpenAICompatibleChatConfig

__all__ = [
    "AnthropicChatConfig",
    "AnthropicLLM",
    "EchoLLM",
    "FallbackLLM",
    "LLMProviderConfig",
    "LLMRequest",
    "LLMResponse",
    "LLMService",
    "LLMStreamChunk",
    "LLMTokenUsage",
    "ModelCapabilities",
    "ModelRestart",
    "OpenAICompatibleChatConfig",
    "OpenAICompatibleLLM",
    "RecordingLLM",
    "ReplayLLM",
    "ReplayMiss",
    "RoutedLLM",
    "create_llm",
    "create_llm_service_from_config",
    "create_llm_service_from_env",
    "is_permanent_llm_error",
    "is_transient_llm_error",
    "request_digest",
]

_HOMES = {
    "power_loop.contracts.digest": ("request_digest",),
    "power_loop.contracts.llm_errors": ("is_permanent_llm_error", "is_transient_llm_error"),
    "power_loop.contracts.model": (
        "LLMRequest", "LLMResponse", "LLMService", "LLMStreamChunk", "LLMTokenUsage", "ModelCapabilities", "ModelRestart",
    ),
    "power_loop.providers.anthropic.model": ("AnthropicLLM",),
    "power_loop.providers.config": ("LLMProviderConfig",),
    "power_loop.providers.echo": ("EchoLLM",),
    "power_loop.providers.fallback": ("FallbackLLM",),
    "power_loop.providers.open": ("create_llm", "create_llm_service_from_config", "create_llm_service_from_env"),
    "power_loop.providers.openai.model": ("OpenAICompatibleLLM",),
    "power_loop.providers.recording": ("RecordingLLM",),
    "power_loop.providers.replay": ("ReplayLLM", "ReplayMiss"),
    "power_loop.providers.routed": ("RoutedLLM",),
    "power_loop.providers.settings": ("AnthropicChatConfig", "OpenAICompatibleChatConfig"),
}  # fmt: skip

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = door(__name__, _HOMES)
