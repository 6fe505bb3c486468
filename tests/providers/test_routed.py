"""Several providers under names: who is asked, and by what name its reply goes."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentSpec, StatefulAgentLoop, open_store, run_agent_spec
from power_loop.contracts.model import LLMRequest
from power_loop.llm import LLMService, ModelCapabilities, RoutedLLM
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow


def named(name: str, seen: list[tuple[str, str | None]]) -> FunctionLLM:
    def answer(request: LLMRequest) -> str:
        seen.append((name, request.model))
        return f"{name} answers"

    model = FunctionLLM(answer)
    model.model = f"{name}-1"
    return model


@pytest.mark.parametrize(("asked", "who", "model"), [
    (None, "main", None), ("gpt:8b", "main", "gpt:8b"), ("cheaper", "main", "cheaper"),
    ("cheap", "cheap", None), ("cheap:tiny", "cheap", "tiny"),
])  # fmt: skip
async def test_a_request_goes_to_the_service_that_its_model_names(asked: str | None, who: str, model: str | None) -> None:
    seen: list[tuple[str, str | None]] = []
    routed = RoutedLLM({"main": named("main", seen), "cheap": named("cheap", seen)}, default="main")
    response = await routed.complete(LLMRequest([{"role": "user", "content": "hi"}], model=asked))
    assert (seen, response.text) == ([(who, model)], f"{who} answers")
    [*_, last] = [chunk async for chunk in routed.stream(LLMRequest([{"role": "user", "content": "hi"}], model=asked))]
    assert last.response is not None
    assert seen[1] == (who, model)


def test_names_with_a_colon_and_an_unknown_default_are_refused() -> None:
    service = FunctionLLM(lambda _: "")
    for names, default in (({"a:b": service}, "a:b"), ({"a": service}, "b"), ({"": service}, "")):
        with pytest.raises(ValueError, match="must be one of the names"):
            RoutedLLM(names, default=default)


def test_what_is_sent_fits_whoever_answers() -> None:
    def declared(**told: Any) -> LLMService:
        service = FunctionLLM(lambda _: "")
        service.capabilities = ModelCapabilities(**told)
        return service

    routed = RoutedLLM({"small": declared(context_window=8), "main": declared(context_window=64, tools=True)}, default="main")
    assert routed.capabilities == ModelCapabilities(context_window=8, tools=True)


# acceptance: 100
async def test_a_sub_agent_and_a_leaf_have_providers_of_their_own() -> None:
    seen: list[tuple[str, str | None]] = []
    routed = RoutedLLM({"main": named("main", seen), "cheap": named("cheap", seen)}, default="main")
    async with StatefulAgentLoop(llm=routed, store=await open_store()) as loop:
        found = await run_agent_spec(AgentSpec("scout", "You look.", model="cheap"), "go", parent_loop=loop)
        assert found.final_text == "cheap answers"
        specs = [{"name": name, "system_prompt": "You.", "model": model} for name, model in (("a", "cheap:x"), ("b", "main"))]
        leaves = [{"type": "agent", "id": spec["name"], "spec": spec} for spec in specs]
        done = await create_workflow({"name": "w", "root": {"type": "sequence", "steps": leaves}}, parent_loop=loop).run()
        assert done.final == "main answers"
    assert seen == [("cheap", None), ("cheap", "x"), ("main", None)]
