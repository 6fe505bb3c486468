"""No test pays a model by accident."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop.contracts.llm_errors import is_permanent_llm_error
from power_loop.llm import EchoLLM, LLMProviderConfig, LLMRequest, create_llm_service_from_config
from power_loop.providers.guard import ModelCallForbidden
from power_loop.testing import ScriptedLLM, forbid_model_calls

ASK = LLMRequest([{"role": "user", "content": "hi"}])


def real(provider: str) -> Any:
    return create_llm_service_from_config(LLMProviderConfig("http://127.0.0.1:9", "k", "m", provider, max_retries=0))


# acceptance: 154 (every real transport is blocked)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "anything"])
async def test_every_real_transport_is_blocked(provider: str) -> None:
    with forbid_model_calls():
        with pytest.raises(ModelCallForbidden, match="ScriptedLLM") as caught:
            await real(provider).complete(ASK)
        with pytest.raises(ModelCallForbidden):
            await anext(real(provider).stream(ASK))
    assert is_permanent_llm_error(caught.value)


async def test_models_for_tests_are_not_blocked() -> None:
    with forbid_model_calls():
        assert (await ScriptedLLM(["fine"]).complete(ASK)).text == "fine"
        assert (await EchoLLM().complete(ASK)).text == "echo: hi"


async def test_it_holds_in_other_threads_and_until_the_last_one_allows() -> None:
    outer, inner = forbid_model_calls(), forbid_model_calls()
    inner.allow()
    inner.allow()
    try:
        with pytest.raises(ModelCallForbidden):
            await asyncio.to_thread(lambda: asyncio.run(real("openai").complete(ASK)))
    finally:
        outer.allow()
    with pytest.raises(Exception, match="Connection") as caught:
        await real("openai").complete(ASK)
    assert not isinstance(caught.value, ModelCallForbidden)
