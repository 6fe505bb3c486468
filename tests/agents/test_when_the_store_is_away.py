"""A database that is away for a moment while a sub-agent works: the send breaks off, as where its own batch meets that, and goes on."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from loops import kept

from power_loop import LLMRequest, StatefulAgentLoop, StoreUnavailable, ToolRegistry, open_store, register_spawn_agent, tool
from power_loop.testing import FunctionLLM, call, check_invariants, say
from power_loop.testing.scripted import Step
from power_loop.workflow import create_workflow, list_workflows, register_workflow_tools, resume_run

pytestmark = pytest.mark.usefixtures("loops_closed")


HELPER = {"name": "helper", "system_prompt": "You help."}
RUN = {"name": "w", "root": {"type": "agent", "id": "a", "spec": {**HELPER, "tools": ["charge"]}, "input": "charge"}}


def answer(request: LLMRequest) -> Step:
    match request.messages[-1]["content"]:
        case "go":
            return call("run_agent", spec=HELPER, input="charge")
        case "plan":
            return call("create_workflow", spec=RUN)
        case "charge":
            return call("charge")
        case said:
            return say(f"so: {said}")


class Away:
    """Charges, and a loop whose store fails to write the batch ``at``, counted from when `begin` is called."""

    def __init__(self, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.charged, self._monkeypatch = at, list[int](), monkeypatch

    async def loop(self) -> StatefulAgentLoop:
        @tool(effects="once")
        async def charge() -> str:
            """Charge."""
            self.charged.append(self.at)
            return "charged"

        registry = ToolRegistry([charge])
        register_spawn_agent(registry)
        register_workflow_tools(registry)
        return kept(StatefulAgentLoop(llm=FunctionLLM(answer), store=await open_store(":memory:"), tool_registry=registry))

    def begin(self, loop: StatefulAgentLoop) -> None:
        async def append(batch: Any) -> None:
            if next(batches) == self.at:
                raise StoreUnavailable("no route to the database")
            await inner(batch)

        assert loop.store is not None
        batches, inner = count(1), loop.store.append
        self._monkeypatch.setattr(loop.store, "append", append)


@pytest.mark.parametrize("at", range(2, 9))
async def test_no_outcome_is_made_up_for_a_sub_agent_and_it_goes_on_with_its_root(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(at, monkeypatch)
    loop = await away.loop()
    root = await loop.new_session()
    away.begin(loop)
    with pytest.raises(StoreUnavailable, match="no route"):
        await loop.send("go", root)
    result = await loop.resume(root)
    assert result.status == "completed"
    assert len(away.charged) == 1
    assert not any("StoreUnavailable" in str(message["content"]) for message in await loop.get_messages(root))
    assert not await check_invariants(loop.store, at_rest=True)


@pytest.mark.parametrize("at", range(2, 8))
async def test_a_leaf_is_not_failed_and_goes_on_with_its_run(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(at, monkeypatch)
    loop = await away.loop()
    workflow = create_workflow(RUN, parent_loop=loop)
    away.begin(loop)
    with pytest.raises(StoreUnavailable, match="no route"):
        await workflow.run()
    (run,) = await list_workflows(loop, None)
    result = await resume_run(loop, None, run["run_id"])
    assert result.status == "completed"
    assert len(away.charged) == 1
    assert not await check_invariants(loop.store, at_rest=True)


@pytest.mark.parametrize("at", range(2, 12))
async def test_a_workflow_that_a_model_began_goes_on_with_the_call(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(at, monkeypatch)
    loop = await away.loop()
    root = await loop.new_session()
    away.begin(loop)
    with pytest.raises(StoreUnavailable, match="no route"):
        await loop.send("plan", root)
    assert (await loop.resume(root)).status == "completed"
    (run,) = await list_workflows(loop, root)
    assert run["status"] == "completed"
    told = str(await loop.get_messages(root))
    assert len(away.charged) == 1
    assert "StoreUnavailable" not in told
    assert not await check_invariants(loop.store, at_rest=True)
