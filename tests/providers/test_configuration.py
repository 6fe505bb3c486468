"""From the environment, a config or a string to a model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from power_loop.contracts.errors import LLMError
from power_loop.contracts.model import ModelCapabilities
from power_loop.llm import (
    AnthropicLLM,
    EchoLLM,
    LLMProviderConfig,
    OpenAICompatibleLLM,
    create_llm,
    create_llm_service_from_config,
    create_llm_service_from_env,
)

KEYS = ("BASE_URL", "API_KEY", "MODEL", "PROVIDER")


@pytest.fixture(autouse=True)
def _nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_variables(prefix: str = "POWER_LOOP", **values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"{prefix}_{name}", value)

    return set_variables


# acceptance: 4
async def test_three_variables_make_a_working_service(env: Any, server: Any, h: Any) -> None:
    env(BASE_URL=f"{server.url}/v1", API_KEY="k", MODEL="gpt")
    service = create_llm_service_from_env()
    assert (await service.complete(h.ask())).text == "fine"
    assert server.asked[0].headers["authorization"] == "Bearer k"
    assert server.asked[0].body["model"] == "gpt"
    await service.close()


# acceptance: 4 (a missing one is named)
@pytest.mark.parametrize("missing", ["BASE_URL", "API_KEY", "MODEL"])
def test_a_missing_variable_is_named(env: Any, missing: str) -> None:
    env(**{name: "http://x" for name in KEYS[:3] if name != missing})
    with pytest.raises(ValueError, match=f"POWER_LOOP_{missing}"):
        create_llm_service_from_env()


# acceptance: 5
def test_the_fallback_prefix_fills_what_the_first_leaves_empty() -> None:
    compat = {"OPENAI_COMPAT_BASE_URL": "http://c", "OPENAI_COMPAT_API_KEY": "ck", "OPENAI_COMPAT_MODEL": "cm"}
    config = LLMProviderConfig.from_env(env={**compat, "POWER_LOOP_MODEL": "", "POWER_LOOP_API_KEY": " "})
    assert (config.base_url, config.api_key, config.model) == ("http://c", "ck", "cm")
    ours = {"POWER_LOOP_BASE_URL": "http://p", "POWER_LOOP_API_KEY": "pk", "POWER_LOOP_MODEL": "pm"}
    config = LLMProviderConfig.from_env(env={**compat, **ours})
    assert (config.base_url, config.api_key, config.model) == ("http://p", "pk", "pm")


# acceptance: 6 (anthropic)
@pytest.mark.parametrize("name", ["anthropic", "Claude", "dashscope-anthropic"])
async def test_the_provider_chooses_the_messages_protocol(env: Any, server: Any, h: Any, name: str) -> None:
    env(BASE_URL=server.url, API_KEY="k", MODEL="claude", PROVIDER=name)
    service = create_llm_service_from_env()
    assert isinstance(service, AnthropicLLM)
    assert (await service.complete(h.ask())).text == "fine"
    assert server.asked[0].path == "/v1/messages"
    await service.close()


# acceptance: 6 (echo and stub)
@pytest.mark.parametrize("name", ["echo", "stub"])
async def test_echo_needs_no_url_key_or_model(env: Any, h: Any, name: str) -> None:
    env(PROVIDER=name)
    service = create_llm_service_from_env()
    assert isinstance(service, EchoLLM)
    assert (await service.complete(h.ask("hi"))).text == "echo: hi"
    env(ECHO_REPLY="always this")
    assert (await create_llm_service_from_env().complete(h.ask("hi"))).text == "always this"


# acceptance: 6 (an unreadable number names its variable)
@pytest.mark.parametrize("name", ["TIMEOUT_S", "MAX_TOKENS", "TEMPERATURE", "MAX_RETRIES", "SUPPORTS_CONTEXT_WINDOW", "SUPPORTS_TOOLS"])
def test_an_unreadable_value_names_its_variable(env: Any, name: str) -> None:
    env(BASE_URL="http://x", API_KEY="k", MODEL="m", **{name: "a lot"})
    with pytest.raises(ValueError, match=f"POWER_LOOP_{name}"):
        create_llm_service_from_env()


def test_every_variable_has_its_effect() -> None:
    said = {
        "BASE_URL": "http://x", "API_KEY": "k", "MODEL": "m", "TIMEOUT_S": "5", "MAX_TOKENS": "100", "TEMPERATURE": "0.5",
        "MAX_RETRIES": "0",
        "SUPPORTS_IMAGE_INPUT": "no", "SUPPORTS_PDF_INPUT_CHAT": "true", "SUPPORTS_DATA_URL": "1", "SUPPORTS_TOOLS": "off",
        "SUPPORTS_STREAM": "false", "SUPPORTS_JSON_SCHEMA": "yes", "SUPPORTS_CONTEXT_WINDOW": "32000",
    }  # fmt: skip
    config = LLMProviderConfig.from_env(prefix="APP", env={f"APP_{name}": value for name, value in said.items()})
    assert (config.timeout_s, config.max_tokens, config.temperature, config.max_retries) == (5, 100, 0.5, 0)
    service = create_llm_service_from_config(config)
    assert service.capabilities == ModelCapabilities(
        image_input=False, pdf_input=True, data_url=True, tools=False, stream=False, json_schema=True, context_window=32000
    )


def test_any_other_provider_is_openai_compatible() -> None:
    config = LLMProviderConfig("http://x", "k", "m", "deepseek", organization="org", extra={"stream_resume_on_error": True, "seed": 1})
    service = create_llm_service_from_config(config)
    assert isinstance(service, OpenAICompatibleLLM)
    assert (service.config.organization, service.config.stream_resume_on_error, service.config.extra) == ("org", True, {"seed": 1})


def test_a_config_hides_its_key_and_names_what_is_missing() -> None:
    config = LLMProviderConfig("http://x", "very-secret", "m")
    assert config.is_ready
    assert "very-secret" not in repr(config) + repr(config.to_openai_compatible()) + repr(config.to_anthropic())
    with pytest.raises(ValueError, match="api_key, model"):
        LLMProviderConfig("http://x", "", "")


# --- model strings ------------------------------------------------------------------------------------


def test_a_model_string_is_a_provider_and_a_model(env: Any) -> None:
    env("OPENAI", API_KEY="ok")
    env("ANTHROPIC", API_KEY="ak", BASE_URL="http://a")
    first, second = create_llm("openai:gpt-4o-mini"), create_llm("anthropic:claude-x", max_retries=1)
    assert isinstance(first, OpenAICompatibleLLM)
    assert isinstance(second, AnthropicLLM)
    assert (first.config.base_url, first.config.api_key, first.model) == ("https://api.openai.com/v1", "ok", "gpt-4o-mini")
    assert (second.config.base_url, second.config.api_key, second.config.max_retries) == ("http://a", "ak", 1)
    assert isinstance(create_llm("echo:"), EchoLLM)


def test_our_own_variables_come_first_unless_they_are_of_another_provider(env: Any) -> None:
    env("OPENAI", API_KEY="ok")
    env(API_KEY="pk", BASE_URL="http://p")
    service = create_llm("openai:m")
    assert isinstance(service, OpenAICompatibleLLM)
    assert (service.config.api_key, service.config.base_url) == ("pk", "http://p")
    env(PROVIDER="anthropic")
    service = create_llm("openai:m", base_url="http://o")
    assert isinstance(service, OpenAICompatibleLLM)
    assert (service.config.api_key, service.config.base_url) == ("ok", "http://o")


@pytest.mark.parametrize("string", ["gpt-4o", ":gpt", "openai:"])
def test_a_string_that_names_no_model_says_how_to_write_one(string: str) -> None:
    with pytest.raises(ValueError, match="PROVIDER:MODEL"):
        create_llm(string, api_key="k")


def test_a_model_string_without_a_key_names_the_variables() -> None:
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        create_llm("openai:gpt")


# --- missing extras -------------------------------------------------------------------------------------


# acceptance: 7 (providers)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_a_missing_sdk_names_its_extra_at_the_call(monkeypatch: pytest.MonkeyPatch, wire: Any, h: Any, sdk: str) -> None:
    monkeypatch.setitem(sys.modules, sdk, None)
    with pytest.raises(ImportError, match=rf"power-loop\[{sdk}\]"):
        create_llm(f"{sdk}:m", api_key="k", base_url="http://x")
    if wire.name == sdk:
        with pytest.raises(ImportError, match=rf"power-loop\[{sdk}\]"):
            await wire.llm().complete(h.ask())


# acceptance: 7 (not at import)
def test_the_door_to_models_loads_no_sdk() -> None:
    code = (
        "import sys, power_loop.llm as llm\n"
        "[getattr(llm, name) for name in llm.__all__]\n"
        "llm.create_llm('openai:m', api_key='k'); llm.create_llm('anthropic:m', api_key='k')\n"
        "print(sorted({'openai', 'anthropic', 'httpx', 'httpx2', 'pypdf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_an_address_that_makes_no_sense_is_a_permanent_error(wire: Any, h: Any) -> None:
    with pytest.raises(LLMError):
        await wire.llm("nonsense://[", max_retries=0).complete(h.ask())
