"""From a description to a model: a config, the environment, or a string such as ``openai:gpt-…``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from power_loop.contracts.model import LLMService
from power_loop.providers.config import ANTHROPIC_NAMES, ECHO_NAMES, LLMProviderConfig, Lookup

# Where the two providers live, for model strings that come without an address (their API references).
_HOMES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


def create_llm_service_from_env(*, prefix: str = "POWER_LOOP", fallback_prefix: str = "OPENAI_COMPAT") -> LLMService:
    """The model that the environment describes. Raises `ValueError` naming a missing or unreadable variable."""
    return create_llm_service_from_config(LLMProviderConfig.from_env(prefix=prefix, fallback_prefix=fallback_prefix))


def create_llm_service_from_config(cfg: LLMProviderConfig) -> LLMService:
    """The model that ``cfg`` describes. Raises `ImportError` naming the extra where the provider's SDK is missing."""
    if cfg.provider in ECHO_NAMES:
        from power_loop.providers.echo import EchoLLM

        return EchoLLM(str(cfg.extra.get("reply") or "") or None, sleep_s=float(cfg.extra.get("sleep") or 0.0), model=cfg.model or "echo")
    if cfg.provider in ANTHROPIC_NAMES:
        _need_sdk("anthropic", "anthropic")
        from power_loop.providers.anthropic.model import AnthropicLLM

        return AnthropicLLM(cfg.to_anthropic())
    _need_sdk("openai", "openai")
    from power_loop.providers.openai.model import OpenAICompatibleLLM

    return OpenAICompatibleLLM(cfg.to_openai_compatible())


def create_llm(model: str, *, api_key: str | None = None, base_url: str | None = None, **settings: Any) -> LLMService:
    """The model that a string such as ``openai:gpt-…``, ``anthropic:claude-…`` or ``echo:`` names.

    Key and address come from the arguments, then ``POWER_LOOP_API_KEY`` and ``POWER_LOOP_BASE_URL``, then the provider's own
    variables (``OPENAI_API_KEY``, ``ANTHROPIC_BASE_URL``, …). ``settings`` are fields of `LLMProviderConfig`.
    """
    provider, colon, name = model.partition(":")
    provider = provider.strip().lower()
    if not colon or not provider or not (name or provider in ECHO_NAMES):
        raise ValueError(f"{model!r} names no model; write PROVIDER:MODEL, for example 'openai:gpt-4o-mini' or 'echo:'")
    if provider in ECHO_NAMES:
        echo = LLMProviderConfig.from_env(env={**os.environ, "POWER_LOOP_PROVIDER": "echo"})
        return create_llm_service_from_config(replace(echo, model=name or "echo", extra={**echo.extra, **settings}))
    look = Lookup(os.environ, _prefixes_for(provider))
    address = base_url or look.text("BASE_URL") or _HOMES.get(_wire_of(provider) if provider in ANTHROPIC_NAMES else provider, "")
    return create_llm_service_from_config(LLMProviderConfig(address, api_key or look.required("API_KEY"), name, provider, **settings))


def _wire_of(provider: str) -> str:
    return "anthropic" if provider in ANTHROPIC_NAMES else "echo" if provider in ECHO_NAMES else "openai"


def _prefixes_for(provider: str) -> tuple[str, ...]:
    """Whose variables count: our own, unless they describe another kind of provider, then the provider's."""
    wire, ours = _wire_of(provider), os.environ.get("POWER_LOOP_PROVIDER", "").strip().lower()
    return (wire.upper(),) if ours and _wire_of(ours) != wire else ("POWER_LOOP", wire.upper())


def _need_sdk(module: str, extra: str, *, find: Callable[[str], Any] = find_spec) -> None:
    """Say at once which extra is missing, without importing the SDK."""
    try:
        found = find(module) is not None
    except ValueError:  # the module stands in sys.modules without a spec: blocked on purpose
        found = False
    if not found:
        raise ImportError(f"this model needs the {module} SDK: pip install 'power-loop[{extra}]'")
