"""Sub-agents: a child session is a call of its parent, with its own prompt, tools and limits, found again after a crash."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from loops import kept

from power_loop import (
    AgentEvent,
    AgentHooks,
    AgentLoopConfig,
    AgentSpec,
    CancellationToken,
    HookDirective,
    HookPoint,
    LLMPermanentError,
    RunPolicy,
    SessionNotFoundError,
    SessionStore,
    StatefulAgentLoop,
    ToolNotFound,
    ToolPolicy,
    UsageLimits,
    Worker,
    open_store,
    register_spawn_agent,
    run_agent_spec,
    tool,
)
from power_loop.contracts.model import LLMRequest
from power_loop.contracts.rows import SessionRow
from power_loop.errors import HumanInputRequired
from power_loop.store.memory import MemoryDatabase
from power_loop.terms import OwnTerms, settings_of
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, ScriptedLLM, call, calls, check_invariants, say
from power_loop.tools.toolbox import ToolRegistry

pytestmark = pytest.mark.usefixtures("loops_closed")

# The dead cannot give their leases back; short ones are soon over.
SHORT = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.3))

HELPER = {"name": "helper", "system_prompt": "You help."}


@tool(effects="pure")
def look(what: str) -> str:
    """Look at something."""
    return f"saw {what}"


@tool(effects="pure")
def smell(what: str) -> str:
    """Smell something."""
    return f"smelt {what}"


def with_spawn(*tools: Any) -> ToolRegistry:
    registry = ToolRegistry(tools)
    register_spawn_agent(registry)
    return registry


def loop_of(steps: Any, store: SessionStore, *tools: Any, **more: Any) -> StatefulAgentLoop:
    model = steps if not isinstance(steps, list) else ScriptedLLM(steps)
    return kept(StatefulAgentLoop(llm=model, store=store, tool_registry=with_spawn(*tools), **more))


async def kids(store: SessionStore, session: str) -> list[Any]:
    return await store.list_children(session)


# --- what a sub-agent has -------------------------------------------------------------------


# acceptance: 100
async def test_a_sub_agent_has_its_own_prompt_tools_and_model_settings() -> None:
    store = await open_store()
    spec = HELPER | {"tools": ["look"], "model": "small", "temperature": 0.7, "max_tokens": 99, "lifecycle": "linked"}
    model = ScriptedLLM([call("run_agent", spec=spec, input="look around"), call("look", what="it"), say("seen"), say("done")])
    config = AgentLoopConfig(system_prompt="You lead.", model="large", temperature=0.1)
    loop = loop_of(model, store, look, smell, config=config)
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.final_text) == ("completed", "done")
    parent, child, child_again, _ = model.requests
    assert (parent.system_prompt, parent.model, parent.temperature) == ("You lead.", "large", 0.1)
    assert (child.system_prompt, child.model, child.temperature, child.max_tokens) == ("You help.", "small", 0.7, 99)
    assert [each["function"]["name"] for each in child.tools or ()] == ["look"]
    assert child.messages == [{"role": "user", "content": "look around"}]
    assert child_again.messages[-1]["content"] == "saw it"
    (row,) = await kids(store, session)
    assert (row.kind, row.lifecycle, row.spawn_depth, row.spawn_tool_call_id) == ("subagent", "linked", 1, "call_1")
    messages = await loop.get_messages(session)
    assert messages[2]["content"] == "seen"
    assert not await check_invariants(store)


# acceptance: 100 (too deep)
async def test_too_deep_a_sub_agent_is_rejected_and_has_no_session() -> None:
    store = await open_store(max_spawn_depth=1)
    model = ScriptedLLM([call("spawn_agent", task="a"), call("spawn_agent", task="b"), say("did it myself"), say("done")])
    loop = loop_of(model, store)
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "done"
    told = model.requests[2].messages[-1]["content"]
    assert told.startswith("[sub-agent status=rejected]\nThe sub-agent 'sub-agent' was not begun: it would stand 2 levels deep, and 1 are")
    assert len(await store.list_sessions()) == 1, "the first one was ephemeral, the second never was"


async def test_tools_that_the_parent_does_not_have_are_refused_and_nothing_runs() -> None:
    store = await open_store()
    model = ScriptedLLM([call("spawn_agent", task="x", tools=["look", "fly"]), say("done")])
    loop = loop_of(model, store, look)
    session = await loop.new_session()
    await loop.send("go", session)
    told = (await loop.get_messages(session))[2]["content"]
    assert "'fly'" in told
    assert told.endswith("Nothing was run.")
    assert not await kids(store, session)


async def test_for_a_blank_task_no_session_is_made_and_the_model_is_told_so() -> None:
    store = await open_store()
    blank = calls(call("spawn_agent", task=" \n"), call("run_agent", spec=HELPER, input="\t"))
    loop = loop_of(ScriptedLLM([blank, say("done")]), store)
    session = await loop.new_session()
    await loop.send("go", session)
    told = [row["content"] for row in await loop.get_messages(session) if row["role"] == "tool"]
    assert told == ["The task is blank: say all that the sub-agent needs to know. Nothing was run."] * 2
    for said in (" ", [], {"content": ""}, None, [{"type": "text"}]):
        with pytest.raises((ValueError, TypeError), match=r"user_input is|content block"):
            await run_agent_spec(AgentSpec.from_dict(HELPER), said, parent_loop=loop)
    with pytest.raises(TypeError, match="takes an AgentSpec, not dict"):
        await run_agent_spec(HELPER, "go", parent_loop=loop)  # type: ignore[arg-type]  # what a caller without a type checker gives
    assert len(await store.list_sessions()) == 1


async def test_a_sub_agent_never_has_more_than_its_parent_has_in_this_send() -> None:
    store = await open_store()
    inner = call("spawn_agent", task="y", tools=["smell"])
    model = ScriptedLLM([call("spawn_agent", task="x", tools=["look", "spawn_agent"]), inner, say("no"), say("done")])
    loop = loop_of(model, store, look, smell)
    session = await loop.new_session()
    await loop.send("go", session)
    assert "'smell'" in model.requests[2].messages[-1]["content"]


@pytest.mark.parametrize(("asked", "rounds", "note"), [(99, 50, "[max_rounds 99 was changed to 50"), (0, 1, "[max_rounds 0"), (2, 2, "")])
async def test_rounds_are_kept_within_bounds_and_that_is_said(asked: int, rounds: int, note: str) -> None:
    store = await open_store()
    model = ScriptedLLM([call("spawn_agent", task="x", max_rounds=asked), say("seen"), say("done")])
    loop = loop_of(model, store)
    session = await loop.new_session()
    await loop.send("go", session)
    told = (await loop.get_messages(session))[2]["content"]
    assert told.startswith(note)
    assert told.endswith("seen")


async def test_what_did_not_complete_says_so() -> None:
    store = await open_store()
    spec = HELPER | {"max_rounds": 1, "tools": ["look"]}
    model = ScriptedLLM([call("run_agent", spec=spec, input="x"), call("look", what="a"), say("so far"), say("done")])
    loop = loop_of(model, store, look)
    session = await loop.new_session()
    await loop.send("go", session)
    assert (await loop.get_messages(session))[2]["content"].startswith("[sub-agent status=hit_round_limit]\n")
    assert len(await kids(store, session)) == 1, "it did not complete, so it is kept"


async def test_a_broken_spec_is_told_to_the_model() -> None:
    store = await open_store()
    loop = loop_of([call("run_agent", spec={"name": "x", "max_rounds": 99, "system_prompt": "y"}, input="x"), say("done")], store)
    session = await loop.new_session()
    await loop.send("go", session)
    assert "max_rounds" in (await loop.get_messages(session))[2]["content"]


async def test_an_answer_of_a_form_that_the_spec_asks_for() -> None:
    store = await open_store()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    loop = loop_of([say('{"n": "x"}'), say('{"n": 3}')], store)
    result = await run_agent_spec(AgentSpec(**HELPER, output_schema={"name": "n", "schema": schema}), "count", parent_loop=loop)
    assert (result.status, result.output) == ("completed", {"n": 3})


@pytest.mark.parametrize("inherit", [True, False])
def test_a_sub_agent_has_the_parents_context_settings_unless_it_does_without(inherit: bool) -> None:
    model = ScriptedLLM([])
    configured = settings_of(AgentLoopConfig(context_tokens=700, model="large"), model)
    own = OwnTerms(1, None, 0.0, 99, inherit_context=inherit).of(configured, model)
    plain = settings_of(AgentLoopConfig(), model)
    assert (own.context_tokens, own.limits.fold_at_tokens) == (
        (configured.context_tokens, configured.limits.fold_at_tokens) if inherit else (plain.context_tokens, plain.limits.fold_at_tokens)
    )
    assert (own.model, own.max_tokens) == ("large", 99)


# --- what becomes of it -----------------------------------------------------------------------


@pytest.mark.parametrize(("lifecycle", "kept", "after_closing"), [("ephemeral", 0, 0), ("linked", 1, 0), ("detached", 1, 1)])
async def test_what_becomes_of_the_childs_session(lifecycle: str, kept: int, after_closing: int) -> None:
    store = await open_store()
    model = ScriptedLLM([call("run_agent", spec=HELPER | {"lifecycle": lifecycle}, input="x"), say("seen"), say("done")])
    loop = loop_of(model, store)
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert len(await kids(store, session)) == kept
    assert result.usage["calls"] == 3, "what it used stays in the parent's usage"
    assert result.usage_own["calls"] == 2
    await loop.close_session(session)
    left = await store.list_sessions()
    assert len(left) == after_closing
    assert all(row.parent_session_id is None and row.kind == "root" for row in left)
    assert not await check_invariants(store)


async def test_several_of_one_round_run_side_by_side() -> None:
    store, all_three = await open_store(), asyncio.Barrier(3)

    async def answer(request: LLMRequest) -> Any:
        if request.system_prompt != "You lead.":
            await all_three.wait()
            return f"did {request.messages[-1]['content']}"
        if len(request.messages) > 1:
            return " ".join(message["content"] for message in request.messages[2:])
        return calls(*(call("spawn_agent", task=f"t{n}") for n in range(3)))

    loop = loop_of(FunctionLLM(answer), store, config=AgentLoopConfig(system_prompt="You lead."))
    result = await loop.send("go", await loop.new_session())
    assert result.final_text == "did t0 did t1 did t2"
    assert result.usage["calls"] == 5
    assert len(await store.list_sessions()) == 1


async def test_the_parent_hears_of_its_child() -> None:
    store, heard = await open_store(), list[AgentEvent]()
    loop = loop_of([call("spawn_agent", task="x"), say("seen"), say("done")], store)
    loop.event_bus.subscribe(None, heard.append)
    session = await loop.new_session()
    await loop.send("go", session)
    told = [event for event in heard if event.type.startswith("subagent_task")]
    assert [event.type for event in told] == ["subagent_task_start", "subagent_task_text", "subagent_task_completed"]
    assert {(event.session_id, event.source) for event in told} == {(session, "subagent")}
    child = told[0].payload["sub_session_id"]
    assert told[0].payload["task"] == "x"
    inner = [event for event in heard if event.session_id == child]
    assert {event.depth for event in inner} == {1}
    assert inner[0].payload["scope"] == "subagent"


async def test_the_parents_handlers_stand_in_the_childs_sends_too() -> None:
    store, seen = await open_store(), list[Any]()
    hooks = AgentHooks()
    hooks.register(HookPoint.TOOL_BEFORE, lambda ctx: seen.append((ctx.tool_name, ctx.depth, ctx.scope)))
    loop = loop_of([call("spawn_agent", task="x"), call("look", what="a"), say("seen"), say("done")], store, look, hooks=hooks)
    await loop.send("go", await loop.new_session())
    assert seen == [("spawn_agent", 0, "main"), ("look", 1, "subagent")]


# acceptance: 49 (sub-agents)
async def test_a_veto_of_the_parents_handler_holds_in_the_child() -> None:
    ran: list[str] = []

    @tool(effects="pure")
    def delete(what: str) -> str:
        """Delete."""
        ran.append(what)
        return "deleted"

    def veto(ctx: Any) -> HookDirective:
        ctx.output = "not on my watch"
        return HookDirective.SKIP if ctx.tool_name == "delete" else HookDirective.CONTINUE

    hooks = AgentHooks()
    hooks.register(HookPoint.TOOL_BEFORE, veto)
    steps = [call("spawn_agent", task="x"), call("delete", what="all"), say("I see."), say("done")]
    loop = loop_of(steps, await open_store(), delete, hooks=hooks)
    assert (await loop.send("go", await loop.new_session())).final_text == "done"
    assert (ran, loop.llm.requests[2].messages[-1]["content"]) == ([], "not on my watch")


# acceptance: 145 (requests of the tree)
async def test_the_parents_budget_stops_its_children() -> None:
    store = await open_store()
    steps = [call("run_agent", spec=HELPER, input="x"), *[call("look", what=str(n)) for n in range(9)]]
    loop = loop_of(steps, store, look)
    result = await loop.send("go", await loop.new_session(), limits=UsageLimits(requests=4))
    assert result.status == "budget_exceeded"
    assert result.usage["calls"] == 4


# --- cancelled, killed ------------------------------------------------------------------------------


# acceptance: 72 (sub-agents)
async def test_a_cancel_reaches_the_child_and_both_end_cancelled() -> None:
    store, began = await open_store(), asyncio.Event()

    async def answer(request: LLMRequest) -> Any:
        if request.system_prompt == "You help.":
            began.set()
            await asyncio.Event().wait()
        return call("run_agent", spec=HELPER, input="x")

    ended: list[AgentEvent] = []
    loop = loop_of(FunctionLLM(answer), store)
    loop.event_bus.subscribe("session_ended", ended.append)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await began.wait()
    assert await loop.cancel(session, reason="enough")
    assert (await sending).status == "cancelled"
    (child,) = await kids(store, session)
    assert [(event.session_id, event.payload["reason"]) for event in ended] == [(child.session_id, "cancelled"), (session, "cancelled")]
    assert not await check_invariants(store)


# acceptance: 72 (sub-agents, every kind)
@pytest.mark.parametrize("kind", [CancellationToken, threading.Event, asyncio.Event, "callable"])
async def test_a_cancellation_object_of_any_kind_reaches_the_child(kind: Any) -> None:
    began, stopped = asyncio.Event(), threading.Event()

    async def answer(request: LLMRequest) -> Any:
        if request.system_prompt == "You help.":
            began.set()
            await asyncio.Event().wait()
        return call("run_agent", spec=HELPER, input="x")

    source = stopped.is_set if kind == "callable" else kind()
    ended: list[Any] = []
    loop = loop_of(FunctionLLM(answer), await open_store())
    loop.event_bus.subscribe("session_ended", lambda event: ended.append((event.depth, event.payload["reason"])))
    sending = asyncio.create_task(loop.send("go", await loop.new_session(), stop_event=source))
    await began.wait()
    _ = source.cancel() if kind is CancellationToken else stopped.set() if kind == "callable" else source.set()
    assert (await sending).status == "cancelled"
    assert ended == [(1, "cancelled"), (0, "cancelled")]


async def test_whoever_drives_the_child_drives_it_under_its_own_spec() -> None:
    store, began = await open_store(), asyncio.Event()
    spec = HELPER | {"model": "small", "tools": ["look"], "max_tokens": 77, "max_rounds": 2}

    async def answer(request: LLMRequest) -> Any:
        if request.system_prompt == "You help.":
            began.set()
            await asyncio.Event().wait()
        return call("run_agent", spec=spec, input="x")

    loop = loop_of(FunctionLLM(answer), store, look, smell)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await began.wait()
    sending.cancel()
    await asyncio.wait([sending])
    (child,) = await kids(store, session)
    other = ScriptedLLM([call("look", what="a"), call("look", what="b"), say("enough")])
    heard: list[AgentEvent] = []
    heir = loop_of(other, store, look, smell)
    heir.event_bus.subscribe("session_started", heard.append)
    assert (await heir.resume(child.session_id)).status == "hit_round_limit"
    assert {(request.system_prompt, request.model, request.max_tokens) for request in other.requests} == {("You help.", "small", 77)}
    assert [each["function"]["name"] for each in other.requests[0].tools or ()] == ["look"]
    assert [(event.depth, event.payload["scope"]) for event in heard] == [(1, "subagent")]


@pytest.mark.parametrize("known", [True, False], ids=["warm", "cold"])
async def test_a_child_that_hears_a_later_word_has_what_its_spec_gave_it_and_no_more(known: bool) -> None:
    """A wake-up that it set, say: a model chose its tools, and another send must not widen them."""
    store = await open_store()
    spec = HELPER | {"model": "small", "tools": ["look"], "max_rounds": 2, "lifecycle": "detached"}
    begins = [call("run_agent", spec=spec, input="x"), say("seen"), say("done")]
    goes_on = [say("again"), call("look", what="b"), call("look", what="c"), say("enough")]
    model = ScriptedLLM(begins + goes_on if known else begins)
    loop = loop_of(model, store, look, smell)
    session = await loop.new_session()
    await loop.send("go", session)
    (child,) = await kids(store, session)
    if not known:
        await loop.close_session(session)  # a detached child outlives its parent
        model = ScriptedLLM(goes_on)
        loop = loop_of(model, store, look, smell)
    await loop.enqueue("wake up", child.session_id)
    assert (await loop.drivers.hear(child.session_id)).final_text == "again"
    assert (await loop.send("and you?", child.session_id)).status == "hit_round_limit"
    asked = model.requests[-len(goes_on) :]
    assert {(request.system_prompt, request.model) for request in asked} == {("You help.", "small")}
    assert {each["function"]["name"] for request in asked for each in request.tools or ()} == {"look"}


async def test_a_child_that_fails_is_a_failed_call_and_its_end_is_told() -> None:
    store, heard = await open_store(), list[AgentEvent]()
    loop = loop_of([call("run_agent", spec=HELPER, input="x"), LLMPermanentError("no such model"), say("done")], store)
    loop.event_bus.subscribe("subagent_task_completed", heard.append)
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "done"
    assert "no such model" in (await loop.get_messages(session))[2]["content"]
    assert [event.payload["status"] for event in heard] == ["failed"]


async def test_a_parent_whose_task_is_cancelled_leaves_a_child_that_goes_on_with_it() -> None:
    store, began, hang = await open_store(), asyncio.Event(), [True]

    async def answer(request: LLMRequest) -> Any:
        if request.system_prompt == "You help.":
            began.set()
            if hang[0]:
                await asyncio.Event().wait()
            return "seen"
        return "done" if len(request.messages) > 1 else call("run_agent", spec=HELPER, input="x")

    loop = loop_of(FunctionLLM(answer), store)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await began.wait()
    sending.cancel()
    await asyncio.wait([sending])
    hang[0] = False
    result = await loop.resume(session)
    assert (result.status, result.final_text) == ("completed", "done")
    assert (await loop.get_messages(session))[2]["content"] == "seen"
    assert not await check_invariants(store)


# A spawn that is repeated finds its child; nothing that was stored is paid again.
@pytest.mark.parametrize(("lifecycle", "when"), [("ephemeral", "after"), ("linked", "before")])
async def test_killed_at_any_commit_the_call_finds_its_child_and_goes_on(lifecycle: str, when: Any) -> None:
    spec = HELPER | {"lifecycle": lifecycle, "tools": ["look"]}

    def answer(request: LLMRequest) -> Any:
        helps = request.system_prompt == "You help."
        if len(request.messages) > 1:
            return "seen" if helps else "done"
        return call("look", what="it") if helps else call("run_agent", spec=spec, input="x")

    at, died = 0, True
    while died:
        at, died = at + 1, False
        database = MemoryDatabase.with_schema()
        store = store_on(database)
        session = await store.create_session(session_id="top", agent="agent")
        paid = FunctionLLM(answer)
        try:
            await loop_of(paid, DyingStore(store, at, when), look, config=SHORT).send("go", session, key="once")
        except Died:
            died = True
        except BaseException as error:
            died = bool(caused_by_death(error))
            if not died:
                raise
        heir = loop_of(paid, store_on(database), look, config=SHORT)
        result = await heir.send("go", session, key="once")
        assert (result.status, result.final_text) == ("completed", "done"), at
        assert (await heir.get_messages(session))[2]["content"] == "seen"
        assert len(await kids(store, session)) == (0 if lifecycle == "ephemeral" else 1)
        assert len(paid.requests) <= 5, "at most the call that was cut off is paid again"
        assert not await check_invariants(store)
    assert at > 6


def caused_by_death(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, Died) or (isinstance(error, BaseExceptionGroup) and any(map(caused_by_death, error.exceptions))):
            return True
        error = error.__cause__ or error.__context__
    return False


def store_on(database: MemoryDatabase) -> SessionStore:
    return SessionStore(database.connect(), MemoryDatabase.dialect)


# --- people ---------------------------------------------------------------------------------------------


@tool(effects="pure")
def ask(question: str) -> str:
    """Ask the user."""
    raise HumanInputRequired(question)


@tool(effects="once", needs_approval=True)
def pay(euros: int) -> str:
    """Pay."""
    return f"paid {euros}"


async def test_a_question_of_a_child_parks_the_parent_and_its_answer_goes_down() -> None:
    store = await open_store()
    model = ScriptedLLM([call("run_agent", spec=HELPER, input="x"), call("ask", question="Which colour?"), say("blue then"), say("done")])
    loop = loop_of(model, store, ask)
    session = await loop.new_session()
    waiting = await loop.send("go", session)
    assert waiting.status == "waiting_for_input"
    (question,) = waiting.pending_interactions
    assert (question["prompt"], question["kind"]) == ("Which colour?", "text")
    result = await loop.submit_input(session, question["interaction_id"], "blue")
    assert (result.status, result.final_text) == ("completed", "done")
    assert model.requests[2].messages[-1]["content"] == "blue"
    assert not await kids(store, session)


async def test_a_child_that_was_answered_itself_lets_its_parent_go_on() -> None:
    store = await open_store()
    model = ScriptedLLM([call("run_agent", spec=HELPER, input="x"), call("ask", question="Which colour?"), say("blue then"), say("done")])
    loop = loop_of(model, store, ask)
    session = await loop.new_session()
    await loop.send("go", session)
    (child,) = await kids(store, session)
    (question,) = ((await loop.get_pending(child.session_id)) or {})["pending_interactions"]
    assert (await loop.submit_input(child.session_id, question["interaction_id"], "blue")).final_text == "blue then"
    assert (await loop.resume(session)).final_text == "done"


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_question_as_the_root_lists_it_may_be_answered_at_the_session_that_asks(depth: int) -> None:
    store = await open_store()
    spawns = [call("run_agent", spec=HELPER, input="x")] * depth
    model = ScriptedLLM([*spawns, call("ask", question="Which colour?"), say("blue then"), *[say("done")] * depth])
    loop = loop_of(model, store, ask)
    asker = session = await loop.new_session()
    (question,) = (await loop.send("go", session)).pending_interactions
    while children := await kids(store, asker):
        (asker,) = (child.session_id for child in children)
    for _ in range(2):  # the same key again changes nothing
        assert (await loop.submit_input(asker, question["interaction_id"], "blue", key="k")).final_text == "blue then"
    assert (await loop.resume(session)).final_text == "done"


# acceptance: 125 (given at the root)
@pytest.mark.parametrize("of_the_root", [True, False])
async def test_an_approval_inside_a_child_is_given_at_the_root_or_the_child(of_the_root: bool) -> None:
    store = await open_store()
    model = ScriptedLLM([call("run_agent", spec=HELPER, input="x"), call("pay", euros=5), say("paid it"), say("done")])
    loop = loop_of(model, store, pay)
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "waiting_for_input"
    (approval,) = await loop.list_approvals(session)
    home = session if of_the_root else approval.session_id
    await loop.approve(home, approval.interaction_id, digest=approval.digest)
    result = await loop.resume(session)
    assert (result.status, result.final_text) == ("completed", "done")
    assert model.requests[2].messages[-1]["content"] == "paid 5"


def paying() -> ScriptedLLM:
    return ScriptedLLM([call("run_agent", spec=HELPER, input="x"), call("pay", euros=5), say("I see"), say("done")])


@pytest.mark.parametrize("by", ["resume", "worker"])
async def test_who_decides_for_a_child_and_is_killed_before_its_parent_is_told_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    async def killed(store: Any, session_id: str) -> None:
        raise KeyboardInterrupt

    store, model = await open_store(), paying()
    loop = loop_of(model, store, pay)
    session = await loop.new_session()
    await loop.send("go", session)
    (approval,) = await loop.list_approvals(session)
    with monkeypatch.context() as patched:
        patched.setattr("power_loop.verbs.wake_above", killed)
        with pytest.raises(KeyboardInterrupt):
            await loop.approve(session, approval.interaction_id, digest=approval.digest)
    for _ in range(4 if by == "worker" else 0):
        await Worker(loop).run_once()
    assert (await loop.doctor(session)).state == ("idle" if by == "worker" else "waiting")
    assert (await loop.resume(session)).final_text == "done"
    assert model.requests[2].messages[-1]["content"] == "paid 5"


class Families(SessionStore):
    """Whoever lists sub-agents sees one that has ended meanwhile, too; another ends as soon as somebody has decided for it."""

    ended: SessionRow | None = None
    decided = ""

    async def list_children(self, session_id: str) -> list[SessionRow]:
        ended = [self.ended] if self.ended is not None and self.ended.parent_session_id == session_id else []
        return [*ended, *await super().list_children(session_id)]

    async def post(self, session_id: str, *said: Any, **more: Any) -> bool:
        new = await super().post(session_id, *said, **more)
        if session_id == self.decided:
            self.decided = ""
            await self.close_session(session_id)
        return new


async def test_a_sub_agent_that_ends_while_somebody_looks_or_decides_at_the_root_is_no_error() -> None:
    store = Families(MemoryDatabase.with_schema(), MemoryDatabase.dialect)
    both = calls(call("run_agent", spec=HELPER, input="x"), call("run_agent", spec=HELPER, input="y"))
    loop = loop_of(FunctionLLM(lambda request: both if request.messages[-1]["content"] == "go" else call("pay", euros=5)), store, pay)
    session = await loop.new_session()
    await loop.send("go", session)
    first, second = await loop.list_approvals(session)
    store.ended = await store.get_session(first.session_id)
    await store.close_session(first.session_id)
    assert await loop.list_approvals(session) == [second]
    assert [job.job_id for job in await loop.list_jobs(session)] == [second.session_id]
    store.decided = second.session_id
    await loop.approve(session, second.interaction_id, digest=second.digest)
    assert await loop.list_approvals(session) == []
    with pytest.raises(SessionNotFoundError):
        await loop.list_approvals(first.session_id)
    await store.close()


async def test_time_that_runs_out_on_an_approval_inside_a_child_is_told_at_the_next_resume_of_the_root() -> None:
    database, clock, model = MemoryDatabase.with_schema(), ManualClock(), paying()
    store = SessionStore(database, MemoryDatabase.dialect, clock=clock)
    loop = loop_of(model, store, pay, config=AgentLoopConfig(tooling=ToolPolicy(approval_ttl_s=10.0)))
    session = await loop.new_session()
    await loop.send("go", session)
    assert (await loop.resume(session)).status == "waiting_for_input", "there is still time"
    clock.jump(11.0)
    assert (await loop.resume(session)).final_text == "done"
    assert model.requests[2].messages[-1]["content"] == "Denied: pay was not run. Note: nobody decided in time"


# --- by hand --------------------------------------------------------------------------------------------


async def test_a_spec_is_run_by_hand_and_its_result_is_a_mapping_too() -> None:
    store = await open_store()
    loop = loop_of([say("seen")], store, look)
    result = await run_agent_spec(AgentSpec(**HELPER, lifecycle="linked"), "x", parent_loop=loop)
    assert (result.status, result["final_text"], result.depth) == ("completed", "seen", 1)
    assert {"session_id", "status", "final_text", "rounds", "depth", "usage", "output", "error"} == set(result)
    assert (await store.get_session(result.session_id or "")).parent_session_id is None
    with pytest.raises(KeyError):
        result["nothing"]
    gone = await run_agent_spec(AgentSpec(**HELPER), "x", parent_loop=loop_of([say("seen")], store))
    assert gone.session_id is None
    with pytest.raises(ToolNotFound):
        await run_agent_spec(AgentSpec(**HELPER, tools=["fly"]), "x", parent_loop=loop)


async def test_below_a_session_the_same_call_finds_its_child() -> None:
    store = await open_store()
    model = ScriptedLLM([say("seen")])
    loop = loop_of(model, store)
    session = await loop.new_session()
    spec = AgentSpec(**HELPER, lifecycle="linked")
    first = await run_agent_spec(spec, "x", parent_loop=loop, parent_session_id=session, spawn_tool_call_id="c1")
    again = await run_agent_spec(spec, "x", parent_loop=loop, parent_session_id=session, spawn_tool_call_id="c1")
    assert (first.session_id, first.final_text) == (again.session_id, again.final_text)
    assert len(model.requests) == 1
    assert (await store.get_session(first.session_id or "")).spawn_tool_call_id == "c1"
    with pytest.raises(SessionNotFoundError):
        await run_agent_spec(spec, "x", parent_loop=loop, parent_session_id="nobody")


class Remembering:
    """A memory that knows whose it is."""

    async def recall(self, *, messages: Any, session_id: str, budget_tokens: int = 0) -> list[Any]:
        return [{"role": "system", "name": "memory_of", "content": f"remembered of {session_id}"}]

    async def remember(self, **told: Any) -> None:
        return


@pytest.mark.parametrize("memory", ["none", "inherit"])
async def test_a_sub_agent_is_shown_its_parents_memory_only_where_its_spec_inherits_it(memory: str) -> None:
    seen: list[tuple[str, bool]] = []

    def answer(request: LLMRequest) -> Any:
        shown = " ".join(str(message["content"]) for message in request.messages)
        seen.append(("helper" if "You help" in str(request.system_prompt) else "main", f"remembered of {session}" in shown))
        return call("run_agent", spec={**spec, "memory": memory}, input="x") if len(seen) == 1 else say("done")

    spec = {"name": "helper", "system_prompt": "You help."}
    loop = loop_of(FunctionLLM(answer), await open_store(), config=AgentLoopConfig(memory=Remembering()))
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "completed"
    assert seen == [("main", True), ("helper", memory == "inherit"), ("main", True)]
