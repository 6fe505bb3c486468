"""A copy of a session with sub-agents: its calls find its own children, and nothing said to it reaches the original's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from loops import kept

from power_loop import AgentSpec, SessionStore, StatefulAgentLoop, open_store, register_spawn_agent, run_agent_spec, tool
from power_loop.errors import HumanInputRequired
from power_loop.testing import FunctionLLM, call, check_invariants
from power_loop.tools.toolbox import ToolRegistry

pytestmark = pytest.mark.usefixtures("loops_closed")

LINKED = {"name": "helper", "system_prompt": "You help.", "lifecycle": "linked"}


@tool(effects="once")
def ask(question: str) -> str:
    """Ask the user."""
    raise HumanInputRequired(question)


class Family:
    """A session whose sub-agent has one of its own, which pays and then asks, and what was paid."""

    def __init__(self, store: SessionStore) -> None:
        self.store, self.paid = store, 0
        registry = ToolRegistry([tool(effects="once")(self.pay), ask])
        register_spawn_agent(registry)
        self.loop = kept(StatefulAgentLoop(llm=FunctionLLM(self.reply), store=store, tool_registry=registry))

    async def pay(self) -> str:
        """Pay."""
        self.paid += 1
        return "paid"

    def reply(self, request: Any) -> Any:
        steps = {
            "go": call("run_agent", spec=LINKED, input="delegate"),
            "delegate": call("run_agent", spec=LINKED, input="do it"),
            "do it": call("pay"),
            "paid": call("ask", question="Which colour?"),
        }
        said = str(request.messages[-1]["content"])
        return steps.get(said, f"heard {said}")

    async def asking(self) -> tuple[str, dict[str, Any]]:
        """(the session, its archive) once the question waits."""
        session = await self.loop.new_session()
        assert (await self.loop.send("go", session)).status == "waiting_for_input"
        archive = await self.store.export_session(session, include_children=True)
        return session, json.loads(json.dumps(archive))

    async def answer(self, session: str, value: str) -> Any:
        [question] = ((await self.loop.get_pending(session)) or {})["pending_interactions"]
        return await self.loop.submit_input(session, question["interaction_id"], value)

    async def below(self, session: str) -> list[str]:
        """The child and the grandchild."""
        [child] = await self.store.list_children(session)
        [grandchild] = await self.store.list_children(child.session_id)
        return [child.session_id, grandchild.session_id]


# acceptance: 84 (the tree, while it waits)
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_answer_to_a_copy_goes_to_its_own_sub_agents_which_do_nothing_twice(elsewhere: bool) -> None:
    family = Family(await open_store())
    session, archive = await family.asking()
    there = Family(await open_store()) if elsewhere else family
    copy = await there.store.import_session(archive)
    children = await there.below(copy)
    result = await there.answer(copy, "blue")
    assert (result.status, result.final_text) == ("completed", "heard heard heard blue")
    assert (family.paid, there.paid) == (1, 0 if elsewhere else 1)
    assert await there.below(copy) == children
    assert await check_invariants(there.store) == []
    assert (await family.answer(session, "red")).final_text == "heard heard heard red"


async def test_a_copy_of_a_copy_finds_its_own_too() -> None:
    family = Family(await open_store())
    _, archive = await family.asking()
    copy = await family.store.import_session(archive)
    second = await family.store.import_session(await family.store.export_session(copy, include_children=True))
    assert (await family.answer(second, "blue")).final_text == "heard heard heard blue"
    assert family.paid == 1
    assert (await family.answer(copy, "red")).final_text == "heard heard heard red"


@pytest.mark.parametrize("verb", ["answer", "resume"])
async def test_a_copy_that_came_without_its_sub_agents_begins_them_anew(verb: str) -> None:
    family = Family(await open_store())
    session, archive = await family.asking()
    copy = await family.store.import_session({**archive, "children": []})
    result = await (family.answer(copy, "blue") if verb == "answer" else family.loop.resume(copy))
    assert result.status == "waiting_for_input", "the new ones ask again"
    assert family.paid == 2
    assert (await family.answer(copy, "green")).final_text == "heard heard heard green"
    assert (await family.answer(session, "red")).final_text == "heard heard heard red"


async def test_a_call_by_hand_finds_the_copys_child_by_its_id() -> None:
    family = Family(await open_store())
    session = await family.loop.new_session()
    by_hand = {"parent_loop": family.loop, "spawn_tool_call_id": "c1"}
    await run_agent_spec(AgentSpec(**LINKED), "hello", parent_session_id=session, **by_hand)
    copy = await family.store.import_session(await family.store.export_session(session, include_children=True))
    [child] = await family.store.list_children(copy)
    again = await run_agent_spec(AgentSpec(**LINKED), "hello", parent_session_id=copy, **by_hand)
    assert again.session_id == child.session_id
