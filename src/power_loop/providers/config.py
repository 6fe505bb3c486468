"""A provider, described: by hand, or by the environment. `open` makes a model of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from power_loop.contracts.model import ModelCapabilities
from power_loop.providers.settings import AnthropicChatConfig, OpenAICompatibleChatConfig, with_context_window

ANTHROPIC_NAMES = frozenset({"anthropic", "claude", "dashscope-anthropic"})
ECHO_NAMES = frozenset({"echo", "stub"})

Number = TypeVar("Number", int, float)


@dataclass
class LLMProviderConfig:
    """A provider, an address, a key and a model; ``repr`` hides the key.

    ``max_tokens`` and ``temperature`` hold for `predict`, `chat` and `predict_stream`; a loop says in every request what it wants.
    """

    base_url: str = ""
    api_key: str = field(default="", repr=False)
    model: str = ""
    provider: str = "openai"
    """``anthropic``, ``claude`` or ``dashscope-anthropic``; ``echo`` or ``stub``; any other name is OpenAI-compatible."""
    timeout_s: float = 180.0
    max_tokens: int | None = 8000
    temperature: float | None = 0.0
    max_retries: int = 3
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    capabilities: ModelCapabilities | None = None
    context_window: int | None = None
    organization: str | None = None
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        self.provider = self.provider.strip().lower()
        if not self.is_ready:
            missing = [name for name in ("base_url", "api_key", "model") if not getattr(self, name)]
            raise ValueError(f"LLMProviderConfig for provider {self.provider!r} needs {', '.join(missing)}")

    @property
    def is_ready(self) -> bool:
        """Everything that a call needs is there."""
        return self.provider in ECHO_NAMES or all((self.base_url, self.api_key, self.model))

    @classmethod
    def from_env(
        cls, *, prefix: str = "POWER_LOOP", fallback_prefix: str = "OPENAI_COMPAT", env: Mapping[str, str] | None = None
    ) -> LLMProviderConfig:
        """As the environment says: ``{prefix}_X``, then ``{fallback_prefix}_X``, then the default; empty counts as unset."""
        look = Lookup(os.environ if env is None else env, (prefix, fallback_prefix))
        provider = (look.text("PROVIDER") or "openai").lower()
        if provider in ECHO_NAMES:
            reply = {"reply": look.text("ECHO_REPLY"), "sleep": look.number("ECHO_SLEEP", float, 0.0)}
            return cls(provider=provider, model=look.text("MODEL") or "echo", extra=reply)
        return cls(
            look.required("BASE_URL"), look.required("API_KEY"), look.required("MODEL"), provider,
            timeout_s=look.number("TIMEOUT_S", float, 180.0),
            max_tokens=look.number("MAX_TOKENS", int, 8000),
            temperature=look.number("TEMPERATURE", float, 0.0),
            max_retries=look.number("MAX_RETRIES", int, 3),
            capabilities=look.capabilities(provider),
            context_window=look.number("SUPPORTS_CONTEXT_WINDOW", int, 0) or look.number("CONTEXT_WINDOW", int, 0) or None,
        )  # fmt: skip

    def to_openai_compatible(self) -> OpenAICompatibleChatConfig:
        extra = dict(self.extra)
        resume = bool(extra.pop("stream_resume_on_error", False))
        restarts = int(extra.pop("stream_max_restarts", 2))
        return OpenAICompatibleChatConfig(
            **self._shared(extra), organization=self.organization, stream_resume_on_error=resume, stream_max_restarts=restarts
        )

    def to_anthropic(self) -> AnthropicChatConfig:
        extra = dict(self.extra)
        return AnthropicChatConfig(prompt_cache=bool(extra.pop("prompt_cache", True)), **self._shared(extra))

    def _shared(self, extra: dict[str, Any]) -> dict[str, Any]:
        return {
            "base_url": self.base_url, "api_key": self.api_key, "model": self.model, "timeout_s": self.timeout_s,
            "max_tokens": self.max_tokens, "temperature": self.temperature, "max_retries": self.max_retries, "extra": extra,
            "capabilities": with_context_window(self.capabilities, self.context_window), "max_concurrency": self.max_concurrency,
        }  # fmt: skip


class Lookup:
    """Variables under a first and a second prefix."""

    def __init__(self, env: Mapping[str, str], prefixes: tuple[str, ...]) -> None:
        self._env, self._prefixes = env, prefixes

    def text(self, name: str) -> str:
        return self._found(name)[1]

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            variables = " or ".join(f"{prefix}_{name}" for prefix in self._prefixes)
            raise ValueError(f"no model is configured: set {variables}")
        return value

    def number(self, name: str, kind: type[Number], default: Number) -> Number:
        variable, value = self._found(name)
        try:
            return kind(value) if value else default
        except ValueError:
            raise ValueError(f"{variable} is {value!r}, which is no {kind.__name__}") from None

    def flag(self, name: str) -> bool | None:
        variable, value = self._found(name)
        if not value:
            return None
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off"):
            return False
        raise ValueError(f"{variable} is {value!r}; say true or false")

    def capabilities(self, provider: str) -> ModelCapabilities:
        pdf = self.flag("SUPPORTS_PDF_INPUT_CHAT")
        return ModelCapabilities(
            image_input=self.flag("SUPPORTS_IMAGE_INPUT"),
            # The Messages protocol is neither of OpenAI's two interfaces: either declaration counts for it.
            pdf_input=self.flag("SUPPORTS_PDF_INPUT_RESPONSES") if pdf is None and provider in ANTHROPIC_NAMES else pdf,
            data_url=self.flag("SUPPORTS_DATA_URL"),
            tools=self.flag("SUPPORTS_TOOLS"),
            stream=self.flag("SUPPORTS_STREAM"),
            json_schema=self.flag("SUPPORTS_JSON_SCHEMA"),
        )

    def _found(self, name: str) -> tuple[str, str]:
        """(variable, its value) of the first that is set; the first variable and an empty value where none is."""
        for prefix in self._prefixes:
            if value := self._env.get(f"{prefix}_{name}", "").strip():
                return f"{prefix}_{name}", value
        return f"{self._prefixes[0]}_{name}", ""
