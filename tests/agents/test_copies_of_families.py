"""A copy of a session with sub-agents: its calls find its own children, and nothing said to it reaches the original's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from loops import kept

from power_loop import AgentSpec, SessionStore, StatefulAgentLoop, UsageLimits, open_store, register_spawn_agent, run_agent_spec, tool
from power_loop.errors import HumanInputRequired
from power_loop.testing import FunctionLLM, ScriptedLLM, call, check_invariants
from power_loop.tools.toolbox import ToolRegistry
from power_loop.workflow import create_workflow, get_workflow, list_workflows

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


async def test_a_copy_of_a_workflow_goes_on_with_its_own_leaves_which_do_nothing_twice() -> None:
    family = Family(await open_store())
    session = await family.loop.new_session()
    leaf = {"type": "agent", "id": "a", "input": "do it", "spec": {"name": "a", "system_prompt": "P", "tools": ["pay", "ask"]}}
    root = {"type": "foreach", "as": "n", "items": [1, 2], "body": leaf}
    waiting = await create_workflow({"name": "w", "root": root}, parent_loop=family.loop, parent_session_id=session).run()
    assert (waiting.status, family.paid) == ("waiting_for_input", 2)
    copy = session
    for _ in range(2):  # the second one is a copy of a copy
        copy = await family.store.import_session(await family.store.export_session(copy, include_children=True))
    [run] = await list_workflows(family.loop, copy)
    leaves = {row.session_id for row in await family.store.list_children(run["session_id"])}
    for question in (await get_workflow(family.loop, copy, run["run_id"]))["waiting_for"]:
        result = await family.loop.submit_input(run["session_id"], question["interaction_id"], "blue")
        assert {row.session_id for row in await family.store.list_children(run["session_id"])} <= leaves
    assert (result.final_text, family.paid) == ("heard blue\n\nheard blue", 2)
    assert (await get_workflow(family.loop, session, waiting.run_id))["status"] == "waiting_for_input"


# --- what sub-agents used --------------------------------------------------------------------------


async def used(loop: StatefulAgentLoop, session: str) -> tuple[int, int]:
    """(calls of the last send with those below it, calls of the whole tree)."""
    stats = await loop.get_session_stats(session, tree=True)
    assert stats is not None
    return (await loop.resume(session)).usage["calls"], stats.llm_calls


@pytest.mark.parametrize("how", ["import", "import without children", "fork"])
async def test_what_sub_agents_used_that_are_gone_stays_with_a_copy(how: str) -> None:
    store = await open_store()
    registry = ToolRegistry()
    register_spawn_agent(registry)
    steps = [call("spawn_agent", task="one"), "did one", "done", call("spawn_agent", task="two"), "did two", "done again"]
    loop = kept(StatefulAgentLoop(llm=ScriptedLLM(steps), store=store, tool_registry=registry))
    session = await loop.new_session()
    for word in ("go", "again"):
        await loop.send(word, session)
    assert await store.list_children(session) == []
    if how == "fork":
        copies = [await store.fork_session(session), await store.fork_session(session, at_send=1)]
    else:
        archive = json.loads(json.dumps(await store.export_session(session, include_children=how == "import")))
        copies = [await store.import_session(archive)]
    assert await used(loop, session) == (3, 6)
    assert [await used(loop, copy) for copy in copies] == [(3, 6), (3, 3)][: len(copies)]
    lines = [len(await store.charges(f"{copies[0]}/{send}")) for send in (1, 2)]
    assert lines == [1, 1]


async def test_a_family_that_waits_counts_in_its_copy_what_it_used_before() -> None:
    family = Family(await open_store())
    session, archive = await family.asking()
    there = Family(await open_store())
    copy = await there.store.import_session(archive)
    results = [await family.answer(session, "blue"), await there.answer(copy, "blue")]
    assert [result.usage["calls"] for result in results] == [7, 7]
    assert await used(family.loop, session) == await used(there.loop, copy)
    # Lines of one millisecond stand in the order of the sessions' ids, which are others in the copy.
    lines = [sorted([row.seq for row in await store.charges(f"{top}/1")]) for store, top in ((family.store, session), (there.store, copy))]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("member", "value", "why"),
    [
        ("calls", -1, "below 0"), ("calls", "one", "a whole number"), ("cost", "dear", "at least 0"), ("seq", None, "has no seq"),
        ("charged_session", "a\0b", "cannot be kept"), ("cost", float("nan"), "a number of at least 0"),
    ],
)  # fmt: skip
async def test_a_charge_that_is_none_is_refused_by_its_place(member: str, value: Any, why: str) -> None:
    family = Family(await open_store())
    _, archive = await family.asking()
    archive["charges"][1][member] = value
    with pytest.raises(ValueError, match=rf"archive\.charges\[1\].*{why}"):
        await family.store.import_session(archive)


@pytest.mark.parametrize(
    ("member", "value", "why"), [("of_send", 2, "not there"), ("of_send", 0, "not there"), ("calls", 1 << 62, "their sum")]
)
async def test_charges_that_fit_no_send_or_no_database_are_refused(member: str, value: int, why: str) -> None:
    family = Family(await open_store())
    _, archive = await family.asking()
    for charge in archive["charges"]:
        charge[member] = value
    with pytest.raises(ValueError, match=rf"archive\.charges: .*{why}"):
        await family.store.import_session(archive)


async def test_what_is_charged_while_an_export_reads_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store()
    registry = ToolRegistry()
    register_spawn_agent(registry)
    steps = [call("spawn_agent", task="one"), "did one", "done", call("spawn_agent", task="two"), "did two", "done again", "fine"]
    loop = kept(StatefulAgentLoop(llm=ScriptedLLM(steps), store=store, tool_registry=registry))
    session = await loop.new_session()
    await loop.send("go", session)
    read, reads = store.database.read, list[str]()

    async def a_send_comes_between(sql: str, params: Any = ()) -> Any:
        rows = await read(sql, params)
        reads.append(sql)
        if len(reads) == 1:
            await loop.send("again", session)
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "read", a_send_comes_between)
        archive = await store.export_session(session)
    assert {charge["of_send"] for charge in archive["charges"]} == {1}
    copy = await store.import_session(archive)
    assert await used(loop, copy) == (3, 3)
    assert (await loop.send("on", copy, limits=UsageLimits(requests=5))).final_text == "fine"


async def test_a_charge_that_comes_twice_is_refused() -> None:
    family = Family(await open_store())
    _, archive = await family.asking()
    archive["charges"].append(archive["charges"][0])
    with pytest.raises(ValueError, match="two of them are one call"):
        await family.store.import_session(archive)
