"""Workflows on a real loop and store: what runs, what is kept, and what a next process does not do again."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from loops import kept
from times import time_passes

from power_loop import AgentLoopConfig, CancellationToken, RunPolicy, SessionStore, StatefulAgentLoop, TimerRunner, Worker, open_store, tool
from power_loop.contracts.model import LLMRequest
from power_loop.errors import HumanInputRequired, StoreUnavailable, WorkflowSpecError
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, call, check_invariants, say
from power_loop.workflow import (
    InProcessExecutor,
    SharedBudget,
    Workflow,
    WorkflowBudget,
    WorkflowRunError,
    WorkflowSpec,
    create_workflow,
    delete_workflow,
    get_workflow,
    list_workflows,
    prune_workflows,
    rehydrate,
    resume_detached,
    resume_run,
    run_detached,
)

pytestmark = pytest.mark.usefixtures("loops_closed")

# The dead cannot give their leases back; short ones are soon over.
SHORT = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.3))


def loop_of(model: Any, store: SessionStore, **more: Any) -> StatefulAgentLoop:
    return kept(StatefulAgentLoop(llm=model, store=store, **more))


def agent(ident: str, prompt: str = "You work.", **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": {"name": ident, "system_prompt": prompt, "tools": []}, **more}


def answering(answers: Callable[[str, str], str], seen: list[str] | None = None) -> FunctionLLM:
    """A model that answers (system prompt, last word)."""

    def reply(request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        if seen is not None:
            seen.append(text)
        return answers(str(request.system_prompt), text)

    return FunctionLLM(reply)


TOPICS = {"name": "topics", "schema": {"type": "object", "properties": {"topics": {"type": "array"}}, "required": ["topics"]}}
RESEARCH: dict[str, Any] = {
    "name": "research",
    "input": "birds",
    "root": {
        "type": "sequence",
        "steps": [
            agent("plan", output_schema=TOPICS),
            {
                "type": "foreach", "id": "each", "as": "topic", "items_from": "plan.topics", "max_concurrency": 16,
                "body": agent("look", "You know {{topic}}.", input="What of {{topic}}?"),
            },
            agent("write", input="Sum up.", inputs_from=["each"]),
        ],
    },
}  # fmt: skip


def research(count: int) -> Callable[[str, str], str]:
    def answer(prompt: str, text: str) -> str:
        if text == "birds":
            return json.dumps({"topics": [f"t{n}" for n in range(count)]})
        return f"about {text[8:-1]}" if text.startswith("What of") else f"written: {text}"

    return answer


# acceptance: 101, 103
async def test_a_planner_a_foreach_and_a_writer_run_and_only_leaves_call_the_model() -> None:
    store, seen = await open_store(), list[str]()
    loop = loop_of(answering(research(5), seen), store)
    result = await create_workflow(RESEARCH, parent_loop=loop).run()
    assert result.status == "completed", result.summary()
    assert len(seen) == 7
    assert "about t0\n\nabout t1\n\nabout t2\n\nabout t3\n\nabout t4" in result.final
    assert result.results["each[2].look"].text == "about t2"
    assert result.usage["calls"] == 7
    assert not await check_invariants(store, at_rest=True)


# --- deaths ---------------------------------------------------------------------------------


def fan(count: int, width: int = 8) -> dict[str, Any]:
    body = agent("one", input="item {{n}}")
    fan = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "body": body, "max_concurrency": width}
    return {"name": "fan", "input": "go", "root": {"type": "sequence", "steps": [fan, agent("sum", input="sum of {{fan}}")]}}


async def manual_store(**more: Any) -> tuple[SessionStore, ManualClock]:
    clock = ManualClock()
    opened = await open_store()
    return SessionStore(opened.database, opened.dialect, clock=clock), clock


async def only_run(loop: StatefulAgentLoop, parent: str | None = None) -> str:
    (run,) = await list_workflows(loop, parent)
    return run["run_id"]


# acceptance: 105, 159
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_run_that_dies_at_any_commit_ends_as_an_undisturbed_one_and_pays_no_leaf_twice(when: Any) -> None:
    straight = await create_workflow(fan(4, 2), parent_loop=loop_of(answering(lambda _, text: f"<{text}>"), await open_store())).run()
    for at in range(2, 100):
        store, clock = await manual_store()
        paid: list[str] = []
        dying = DyingStore(store, at, when)
        model = answering(lambda _, text: f"<{text}>", paid)
        first = StatefulAgentLoop(llm=model, store=dying)
        try:
            result = await create_workflow(fan(4, 2), parent_loop=first).run()
        except Died:
            clock.jump(60)
            loop = loop_of(model, store)
            result = await resume_run(loop, None, await only_run(loop))
        assert result.status == "completed"
        assert (result.final, result.results.keys()) == (straight.final, straight.results.keys()), at
        assert max(Counter(paid).values()) <= 1 + (when == "before"), (at, paid)
        assert not await check_invariants(store, at_rest=True), at
        if not dying.dead:
            return
    raise AssertionError("the run never came to its end")


async def test_a_run_that_nobody_holds_is_interrupted_even_when_it_was_killed_before_its_first_record() -> None:
    store, clock = await manual_store()
    model = answering(lambda _, text: f"<{text}>")
    with pytest.raises(Died):
        await create_workflow(fan(4), parent_loop=StatefulAgentLoop(llm=model, store=DyingStore(store, 2, "before"))).run()
    clock.jump(60)
    loop = loop_of(model, store)
    (run,) = await list_workflows(loop, None)
    assert run["status"] == "interrupted"
    assert (await resume_run(loop, None, run["run_id"])).status == "completed"


async def test_a_run_that_was_begun_here_is_running_before_its_first_record() -> None:
    seen: list[str] = []

    class LookedAt(SessionStore):
        """Somebody looks whenever the session of a run is about to be taken."""

        async def look(self, session_id: str) -> Any:
            if session_id.startswith("wf") and not looking:
                looking.append(session_id)
                seen.extend(run["status"] for run in await list_workflows(loop, None))
            return await super().look(session_id)

    looking: list[str] = []
    opened = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), LookedAt(opened.database, opened.dialect))
    assert (await create_workflow(fan(1), parent_loop=loop).run()).status == "completed"
    assert seen == ["running"]


# acceptance: 159
async def test_of_ninety_items_killed_at_seventy_exactly_twenty_run_again() -> None:
    store, clock = await manual_store()
    dying, answered, paid = DyingStore(store, 10**9), list[str](), list[str]()

    async def reply(request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        await asyncio.sleep(0.001 * (int(text.split()[1]) % 3))  # they end out of order
        if len(answered) >= 70:
            await asyncio.Event().wait()
        answered.append(text)
        return f"<{text}>"

    wf = create_workflow(fan(90, 16), parent_loop=StatefulAgentLoop(llm=FunctionLLM(reply), store=dying))
    handle = await wf.start()
    while len([row for row in await store.rows(f"wf_{handle.run_id}", after=0) if '"completed"' in (row.cells.body or "")]) < 70:
        await asyncio.sleep(0.01)
    dying.dying.dead = True
    handle.task.cancel()
    with pytest.raises((Died, asyncio.CancelledError)):
        await handle.task
    clock.jump(60)
    loop = loop_of(answering(lambda _, text: f"<{text}>", paid), store)
    result = await resume_run(loop, None, handle.run_id)
    assert result.status == "completed"
    assert sum(text.startswith("item") for text in paid) == 20
    assert not set(paid) & set(answered)
    assert result.final == "<sum of " + "\n\n".join(f"<item {n}>" for n in range(90)) + ">"


# --- stopping --------------------------------------------------------------------------------


# acceptance: 106
async def test_a_cancelled_run_keeps_what_is_finished_and_goes_on_to_the_same_end() -> None:
    store, paid = await open_store(), list[str]()
    wf: Workflow

    async def reply(request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        if text == "item 3" and not wf.cancelled:
            wf.cancel("enough")
            await asyncio.Event().wait()
        paid.append(text)
        return f"<{text}>"

    loop = loop_of(FunctionLLM(reply), store)
    wf = create_workflow(fan(6, 2), parent_loop=loop)
    stopped = await wf.run()
    assert stopped.status == "cancelled"
    assert all(each.text for each in stopped.results.values() if each.status == "completed"), "no blank is a result"
    assert (await list_workflows(loop, None))[0]["status"] == "cancelled"
    result = await resume_run(loop, None, wf.run_id)
    assert result.status == "completed"
    assert max(Counter(paid).values()) == 1
    assert result.final == "<sum of " + "\n\n".join(f"<item {n}>" for n in range(6)) + ">"
    assert not await check_invariants(store, at_rest=True)


# acceptance: 106
async def test_a_run_whose_budget_is_used_up_stops_before_the_next_leaf_and_goes_on_with_more() -> None:
    store, paid = await open_store(), list[str]()
    loop = loop_of(answering(lambda _, text: f"<{text}>", paid), store)
    stopped = await create_workflow(fan(6, 1), parent_loop=loop, budget=WorkflowBudget(20)).run()
    assert stopped.status == "budget_exceeded"
    assert 0 < len(paid) < 7
    before = len(paid)
    assert stopped.usage.total_tokens >= 20
    again = await resume_run(loop, None, stopped.run_id)
    assert (again.status, len(paid)) == ("budget_exceeded", before), "the budget of the run holds over its resumes"
    result = await resume_run(loop, None, stopped.run_id, budget=WorkflowBudget(10_000))
    assert (result.status, len(paid)) == ("completed", 7)
    assert max(Counter(paid).values()) == 1


async def test_a_budget_that_a_resume_brings_counts_what_the_run_has_used_before() -> None:
    paid = list[str]()
    loop = loop_of(answering(lambda _, text: f"<{text}>", paid), await open_store())
    stopped = await create_workflow(fan(6, 1), parent_loop=loop, budget=WorkflowBudget(20)).run()
    before = len(paid)
    again = await resume_run(loop, None, stopped.run_id, budget=WorkflowBudget(stopped.usage.total_tokens))
    assert (again.status, len(paid)) == ("budget_exceeded", before)
    result = await resume_run(loop, None, stopped.run_id, budget=SharedBudget(10_000))
    assert (result.status, len(paid)) == ("completed", 7)


# acceptance: 160
async def test_a_run_that_is_driven_elsewhere_is_busy_and_nothing_of_it_runs() -> None:
    store, paid, goes_on = await open_store(), list[str](), asyncio.Event()

    async def reply(request: LLMRequest) -> str:
        paid.append(str(request.messages[-1]["content"]))
        await goes_on.wait()
        return "yes"

    driving = loop_of(FunctionLLM(reply), store)
    handle = await create_workflow(fan(2), parent_loop=driving).start()
    while len(paid) < 2:
        await asyncio.sleep(0.01)
    for loop in (driving, loop_of(FunctionLLM(reply), store)):
        with pytest.raises(WorkflowRunError) as refused:
            await resume_run(loop, None, handle.run_id)
        assert refused.value.code == "workflow.busy"
    assert len(paid) == 2
    goes_on.set()
    assert (await handle.task).status == "completed"


class Paused(InProcessExecutor):
    """Begins no leaf before it is told to: its process stood still."""

    def __init__(self) -> None:
        self.stands, self.goes_on = asyncio.Event(), asyncio.Event()

    async def run_agent(self, *given: Any, **more: Any) -> Any:
        self.stands.set()
        await self.goes_on.wait()
        return await super().run_agent(*given, **more)


async def test_a_driver_that_stood_still_past_its_lease_begins_no_leaf_that_another_has_ended_meanwhile() -> None:
    (store, clock), paid, paused = await manual_store(), list[str](), Paused()
    model = answering(lambda _, text: f"<{text}>", paid)
    late = loop_of(model, store)
    handle = await create_workflow(fan(2), parent_loop=late, executor=paused).start()
    await paused.stands.wait()
    late.drivers.heartbeat.stop()
    clock.jump(60)
    assert (await resume_run(loop_of(model, store), None, handle.run_id)).ok
    sessions = {row.session_id for row in await store.list_sessions()}
    assert len(paid) == 3
    paused.goes_on.set()
    with pytest.raises(WorkflowRunError) as lost:
        await handle.task
    assert lost.value.code == "workflow.busy"
    assert len(paid) == 3
    assert {row.session_id for row in await store.list_sessions()} == sessions
    assert not await check_invariants(store, at_rest=True)


async def test_an_unknown_run_and_another_parents_run_are_refused() -> None:
    loop = loop_of(answering(lambda _, text: text), await open_store())
    parent = await loop.new_session()
    done = await create_workflow(fan(1), parent_loop=loop, parent_session_id=parent).run()
    for other, run_id in ((parent, "0123456789abcdef"), (None, done.run_id), (parent, "!")):
        with pytest.raises(WorkflowRunError, match="there is no run"):
            await resume_run(loop, other, run_id)


async def test_a_changed_step_is_refused_kept_or_run_again_as_the_caller_says() -> None:
    store, paid = await open_store(), list[str]()
    loop = loop_of(answering(lambda prompt, text: f"{prompt}{text}", paid), store)
    spec = {"name": "two", "root": {"type": "sequence", "steps": [agent("a", "A", input="1"), agent("b", "B", input="{{a}}")]}}
    done = await create_workflow(spec, parent_loop=loop).run()
    spec["root"]["steps"][0] = agent("a", "C", input="1")  # type: ignore[index]  # a document
    with pytest.raises(WorkflowRunError) as refused:
        await resume_run(loop, None, done.run_id, spec=spec)
    assert refused.value.code == "workflow.changed"
    assert len(paid) == 2
    kept = await resume_run(loop, None, done.run_id, spec=spec, on_change="keep")
    assert (kept.final, len(paid)) == ("BA1", 2)
    again = await resume_run(loop, None, done.run_id, spec=spec, on_change="rerun")
    assert (again.final, len(paid)) == ("BC1", 4)


# acceptance: 158
@pytest.mark.parametrize("on_error", ["halt", "continue"])
async def test_no_exception_of_a_leaf_leaves_the_run(on_error: str) -> None:
    def answer(prompt: str, text: str) -> str:
        if text == "item 1":
            raise RuntimeError("no")
        return text

    spec = fan(3)
    spec["root"]["steps"][0] |= {"on_error": on_error}
    result = await create_workflow(spec, parent_loop=loop_of(answering(answer), await open_store())).run()
    assert result.status == ("failed" if on_error == "halt" else "completed")
    assert not result.ok
    assert "RuntimeError: no" in result.errors[0]["error"] or "no" in result.errors[0]["error"]


@pytest.mark.parametrize("said", ["null", "```json\nnull\n```", '{"value": null}'])
@pytest.mark.parametrize("in_spec", [True, False])
async def test_null_is_an_answer_where_the_schema_allows_it(said: str, in_spec: bool) -> None:
    maybe = {"name": "maybe", "schema": {"type": ["object", "null"]}}
    leaf = agent("a") if in_spec else agent("a", output_schema=maybe)
    leaf["spec"] |= {"output_schema": maybe} if in_spec else {}
    after = [
        agent("b", input="there is {{a}}", when={"ref": "a", "op": "eq", "value": None}),
        agent("c", when={"ref": "a", "op": "truthy"}),
    ]
    loop = loop_of(answering(lambda _, text: text if text.startswith("there") else said), await open_store())
    result = await create_workflow({"name": "w", "root": {"type": "sequence", "steps": [leaf, *after]}}, parent_loop=loop).run()
    assert (result.status, result.final, list(result.results)) == ("completed", "there is null", ["a", "b"])
    assert (result.results["a"].status, result.results["a"].payload) == ("completed", None)


@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": ["object", "null"]}])
async def test_an_executor_that_tells_no_value_has_not_answered_with_null(schema: dict[str, Any]) -> None:
    class Silent:
        async def run_agent(self, spec: Any, user_input: str, **more: Any) -> dict[str, Any]:
            return {"status": "completed", "final_text": "I looked at it."}

    leaf, loop = agent("a", output_schema={"name": "maybe", "schema": schema}), loop_of(FunctionLLM(lambda _: ""), await open_store())
    result = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop, executor=Silent()).run()
    assert result.results["a"].status == "invalid_output"


# acceptance: 157, 158 (in a run)
async def test_a_leaf_is_tried_again_and_then_its_fallback_has_its_turn() -> None:
    store, paid = await open_store(), list[str]()

    async def reply(request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        paid.append(text)
        if text == "slow":
            time_passes(600)
            await asyncio.Event().wait()
        return text

    leaf = agent("a", input="slow", timeout_s=600, retry={"max_attempts": 2, "on": ["timeout"]}, fallback=agent("b", input="quick"))
    result = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop_of(FunctionLLM(reply), store)).run()
    assert (result.status, result.final, paid) == ("completed", "quick", ["slow", "slow", "quick"])
    assert result.results["a"].status == "timeout"
    assert result.results["a"].attempts == 2
    assert not await check_invariants(store, at_rest=False)


# --- waiting for people -------------------------------------------------------------------------

ASKING: dict[str, Any] = {
    "name": "gate", "input": "go",
    "root": {"type": "sequence", "steps": [
        {"type": "parallel", "branches": [
            {"type": "human", "id": "ask", "prompt": "Shall we {{input}}?", "kind": "choice", "options": ["yes", "no"]},
            agent("work"),
        ]},
        agent("end", input="{{ask}}: {{work}}"),
    ]},
}  # fmt: skip


# acceptance: 162
async def test_a_human_node_holds_no_process_and_its_answer_from_another_one_finishes_the_run() -> None:
    store = await open_store()
    first = StatefulAgentLoop(llm=answering(lambda _, text: f"<{text}>"), store=store)
    waiting = await create_workflow(ASKING, parent_loop=first).run()
    assert (waiting.status, waiting.results["work"].text) == ("waiting_for_input", "<go>")
    assert not await check_invariants(store, at_rest=True)
    await first.aclose()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
    assert (asked["prompt"], asked["options"]) == ("Shall we go?", ["yes", "no"])
    result = await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "yes")
    assert (result.status, result.final_text) == ("completed", "<yes: <go>>")
    assert not await check_invariants(store, at_rest=True)
    with pytest.raises(ValueError, match="waits for no answer"):
        await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "no")


@pytest.mark.parametrize("cases", [("true", "false"), ("yes", "no")])
@pytest.mark.parametrize(("answer", "taken", "text"), [("yes", 0, "yes"), (True, 0, "true"), ("no", 1, "no"), (False, 1, "false")])
async def test_what_a_person_confirms_is_branched_on_as_true_or_false_and_shown_as_it_was_said(
    cases: tuple[str, str], answer: Any, taken: int, text: str
) -> None:
    loop = loop_of(answering(lambda _, text: text), await open_store())
    gate = {"type": "human", "id": "ask", "prompt": "Shall we?", "kind": "confirm"}
    branch = {"type": "branch", "on": "ask", "cases": {case: agent(f"a{n}", input="said {{ask}}") for n, case in enumerate(cases)}}
    waiting = await create_workflow({"name": "w", "root": {"type": "sequence", "steps": [gate, branch]}}, parent_loop=loop).run()
    (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
    await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], answer)
    result = await rehydrate(await loop.ensure_store(), None, waiting.run_id)
    assert (result.status, result.final) == ("completed", f"said {text}")
    assert (result.results["ask"].payload, f"a{taken}" in result.results) == (taken == 0, True)


async def test_a_question_of_a_leaf_parks_its_branch_and_the_answer_is_in_the_leafs_next_request() -> None:
    store, seen = await open_store(), list[Any]()

    @tool(effects="pure")
    async def ask(what: str) -> str:
        """Ask somebody."""
        raise HumanInputRequired(what)

    def reply(request: LLMRequest) -> Any:
        seen.append(request.messages)
        last = request.messages[-1]
        return call("ask", what="Which?") if last["role"] == "user" else say(f"it is {last['content']}")

    leaf = agent("a", input="go")
    leaf["spec"]["tools"] = ["ask"]
    loop = loop_of(FunctionLLM(reply), store, tools=[ask])
    waiting = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop).run()
    assert waiting.status == "waiting_for_input"
    (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
    assert asked["prompt"] == "Which?"
    result = await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "blue")
    assert (result.status, result.final_text, len(seen)) == ("completed", "it is blue", 2)


async def test_an_answer_to_a_leafs_own_session_goes_on_with_the_run() -> None:
    store = await open_store()

    @tool(effects="pure")
    async def ask(what: str) -> str:
        """Ask somebody."""
        raise HumanInputRequired(what)

    def reply(request: LLMRequest) -> Any:
        last = request.messages[-1]
        return call("ask", what="Which?") if last["role"] == "user" else say(f"it is {last['content']}")

    leaf = agent("a", input="go")
    leaf["spec"]["tools"] = ["ask"]
    loop = loop_of(FunctionLLM(reply), store, tools=[ask])
    waiting = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop).run()
    (child,) = await store.list_children(f"wf_{waiting.run_id}")
    (asked,) = ((await loop.get_pending(child.session_id)) or {})["pending_interactions"]
    result = await loop.submit_input(child.session_id, asked["interaction_id"], "green")
    assert (result.status, result.final_text) == ("completed", "it is green")


async def test_an_approval_of_a_leafs_call_lets_a_worker_finish_the_run() -> None:
    store, ran = await open_store(), list[str]()

    @tool(effects="once", needs_approval=True)
    async def pay(whom: str) -> str:
        """Pay somebody."""
        ran.append(whom)
        return "paid"

    def reply(request: LLMRequest) -> Any:
        last = request.messages[-1]
        return call("pay", whom="bob") if last["role"] == "user" else say(f"done: {last['content']}")

    leaf = agent("a", input="go")
    leaf["spec"]["tools"] = ["pay"]
    loop = loop_of(FunctionLLM(reply), store, tools=[pay])
    waiting = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop).run()
    assert (waiting.status, ran) == ("waiting_for_input", [])
    (approval,) = await loop.list_approvals(f"wf_{waiting.run_id}")
    await loop.approve(f"wf_{waiting.run_id}", approval.interaction_id, digest=approval.digest)
    worker = Worker(loop)
    for _ in range(3):
        await worker.run_once()
    found = await get_workflow(loop, None, waiting.run_id)
    assert (found["status"], found["final"], ran) == ("completed", "done: paid", ["bob"])


# --- detached runs ------------------------------------------------------------------------------


def parent_and_leaves(texts: list[str]) -> FunctionLLM:
    return answering(lambda _, text: "noted" if "[workflow" in text else f"<{text}>", texts)


def wakes(texts: list[str]) -> int:
    return sum("[workflow" in text for text in texts)


# acceptance: 104
async def test_a_detached_run_returns_at_once_and_wakes_its_parent_once() -> None:
    store, texts = await open_store(), list[str]()
    loop = loop_of(parent_and_leaves(texts), store)
    parent = await loop.new_session()
    handle = await run_detached(create_workflow(fan(3), parent_loop=loop, parent_session_id=parent), eager_wake=True)
    assert not texts
    assert (await handle.task).status == "completed"
    assert wakes(texts) == 1
    assert (await loop.get_messages(parent))[-1]["content"] == "noted"
    await Worker(loop).run_once()
    assert wakes(texts) == 1
    assert not await check_invariants(store, at_rest=True)


async def test_a_detached_run_that_is_taken_in_hand_while_its_loop_closes_is_gone_on_with_elsewhere() -> None:
    store, texts, hangs = await open_store(), list[str](), True

    async def reply(request: LLMRequest) -> str:
        if hangs:
            await asyncio.Event().wait()
        return str(request.messages[-1]["content"])

    first = StatefulAgentLoop(llm=FunctionLLM(reply), store=store)
    parent = await first.new_session()
    handle = await run_detached(create_workflow(fan(2), parent_loop=first, parent_session_id=parent))
    await first.aclose(drain_timeout_s=30)
    with pytest.raises(asyncio.CancelledError):
        await handle.task
    hangs, loop = False, loop_of(parent_and_leaves(texts), store)
    for _ in range(2):  # the run, then its parent
        await Worker(loop).run_once()
    assert [run["status"] for run in await list_workflows(loop, parent)] == ["completed"]
    assert wakes(texts) == 1


async def test_a_detached_run_without_a_parent_session_is_refused() -> None:
    loop = loop_of(parent_and_leaves([]), await open_store())
    with pytest.raises(ValueError, match="needs a parent session"):
        await run_detached(create_workflow(fan(1), parent_loop=loop))
    with pytest.raises(ValueError, match="does not exist"):
        await run_detached(create_workflow(fan(1), parent_loop=loop, parent_session_id="sess_gone"))


# acceptance: 104
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_parent_is_woken_once_whatever_dies_and_a_worker_finishes_the_run(when: Any) -> None:
    for at in range(4, 100):
        store, clock = await manual_store()
        texts: list[str] = []
        dying = DyingStore(store, at, when)
        first = StatefulAgentLoop(llm=parent_and_leaves(texts), store=dying)
        parent = await first.new_session()
        handle = await run_detached(create_workflow(fan(2), parent_loop=first, parent_session_id=parent), eager_wake=True)
        with suppress(Died):
            await handle.task
        clock.jump(60)
        loop = loop_of(parent_and_leaves(texts), store)
        for _ in range(6):
            clock.jump(60)
            await Worker(loop).run_once()
        (run,) = await list_workflows(loop, parent)
        assert run["status"] == "completed", (at, when)
        heard = [each["content"] for each in await loop.get_messages(parent)]
        assert ["[workflow" in text for text in heard] == [True, False], (at, when, heard)
        assert not await check_invariants(store, at_rest=True)
        if not dying.dead:
            return
    raise AssertionError("the run never came to its end")


# acceptance: 153
@pytest.mark.parametrize("goes_on", ["worker", "host"])
async def test_a_loop_that_closes_breaks_its_detached_runs_off_and_another_goes_on(goes_on: str) -> None:
    store, begun = await open_store(), asyncio.Event()

    async def hangs(request: LLMRequest) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    first = StatefulAgentLoop(llm=FunctionLLM(hangs), store=store)
    parent = await first.new_session()
    handle = await run_detached(create_workflow(fan(2), parent_loop=first, parent_session_id=parent))
    await begun.wait()
    await first.aclose()
    assert handle.task.done()
    assert not await check_invariants(store)
    texts: list[str] = []
    loop = loop_of(parent_and_leaves(texts), store)
    assert (await list_workflows(loop, parent))[0]["status"] == "interrupted"
    if goes_on == "worker":
        await Worker(loop).run_once()
    else:
        again = await resume_detached(loop, parent, handle.run_id)
        assert (await again.task).status == "completed"
    await Worker(loop).run_once()
    assert wakes(texts) == 1
    assert not await check_invariants(store, at_rest=True)


# --- looking, deleting ----------------------------------------------------------------------------


# acceptance: 161
async def test_bytes_grow_with_the_steps_and_a_deleted_run_leaves_nothing() -> None:
    store = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    sizes = []
    for count in (10, 20, 40):
        spec = fan(count)
        spec["root"]["steps"].pop()
        done = await create_workflow(spec, parent_loop=loop, parent_session_id=parent).run()
        assert done.status == "completed"
        rows = await store.rows(f"wf_{done.run_id}", after=0)
        sizes.append(sum(len(row.cells.body or "") + len(row.cells.content or "") for row in rows))
    assert (sizes[2] - sizes[1]) < 2.2 * (sizes[1] - sizes[0])
    waiting = await create_workflow(ASKING, parent_loop=loop, parent_session_id=parent).run()
    (found,) = [run for run in await list_workflows(loop, parent) if run["name"] == "gate"]
    assert (found["status"], found["run_id"]) == ("waiting_for_input", waiting.run_id)
    assert await delete_workflow(loop, parent, waiting.run_id) >= 1
    assert await prune_workflows(loop, older_than_ms=0) == 3
    assert not await list_workflows(loop, parent)
    assert [row.session_id for row in await store.list_sessions()] == [parent], "neither drivers nor leaves are left"


# acceptance: 161 (pruning)
async def test_a_store_prunes_the_runs_that_are_over_and_leaves_those_that_wait() -> None:
    store = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    await create_workflow(fan(2), parent_loop=loop, parent_session_id=parent).run()
    waiting = await create_workflow(ASKING, parent_loop=loop, parent_session_id=parent).run()
    assert await store.prune_workflows(older_than_ms=60_000) == 0
    assert await store.prune_workflows(older_than_ms=0) == 1
    assert [run["run_id"] for run in await list_workflows(loop, parent)] == [waiting.run_id]
    with pytest.raises(ValueError, match="older_than_ms is -1"):
        await store.prune_workflows(older_than_ms=-1)


# acceptance: 161 (pruning)
@pytest.mark.parametrize("by", ["store", "loop"])
async def test_a_run_that_was_begun_inside_another_is_pruned_with_it(by: str) -> None:
    store = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    outer = await create_workflow(fan(1), parent_loop=loop, parent_session_id=parent).run()
    for _ in range(4):  # ids are random: one of them will be looked at behind the outer one's
        await create_workflow(fan(1), parent_loop=loop, parent_session_id=f"wf_{outer.run_id}").run()
    await (store.prune_workflows(older_than_ms=0) if by == "store" else prune_workflows(loop, older_than_ms=0))
    assert not await store.list_sessions(kind="workflow")


async def test_closing_the_parent_takes_its_runs_along() -> None:
    store = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    await create_workflow(ASKING, parent_loop=loop, parent_session_id=parent).run()
    assert await loop.close_session(parent) >= 2
    assert not await store.list_sessions()


@pytest.mark.parametrize("who", ["the same loop", "another loop"])
@pytest.mark.parametrize("detached", [False, True])
async def test_closing_the_parent_cancels_its_run_first_and_nothing_of_it_goes_on(who: str, detached: bool) -> None:
    store, begun, cut = await open_store(), asyncio.Event(), list[str]()

    @tool
    async def hang() -> str:
        """Hang."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.append("hang")
        return ""

    leaf = agent("a")
    leaf["spec"]["tools"] = ["hang"]
    loop = loop_of(FunctionLLM(lambda _: call("hang")), store, tools=[hang])
    parent = await loop.new_session()
    workflow = create_workflow({"name": "w", "root": leaf}, parent_loop=loop, parent_session_id=parent)
    handle = await workflow.start(detached=detached)
    await begun.wait()
    closer = loop if who == "the same loop" else loop_of(FunctionLLM(lambda _: ""), store)
    assert await closer.close_session(parent) >= 2
    assert cut == ["hang"]
    assert (await handle.task).status == "cancelled"
    assert not await store.list_sessions()


async def test_a_run_is_told_as_it_goes_and_shows_how_far_it_is() -> None:
    store, told = await open_store(), list[Any]()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    loop.event_bus.subscribe("system_log", told.append)
    done = await create_workflow(fan(2), parent_loop=loop).run()
    await loop.event_bus.drain(5)
    assert [event.source for event in told] == ["workflow"] * 7
    found = await get_workflow(loop, None, done.run_id, detail=True)
    assert found["progress"]["root.steps[0].body"] == {"completed": 2}
    assert found["result"]["final"] == done.final
    assert found["mermaid"].startswith("flowchart")
    assert (await rehydrate(store, None, done.run_id)) == done


async def test_a_run_takes_no_words() -> None:
    loop = loop_of(answering(lambda _, text: text), await open_store())
    done = await create_workflow(fan(1), parent_loop=loop).run()
    with pytest.raises(ValueError, match="takes no words"):
        await loop.send("hello", f"wf_{done.run_id}")
    with pytest.raises(ValueError, match="takes no words"):
        await loop.enqueue("hello", f"wf_{done.run_id}")
    with pytest.raises(ValueError, match="takes no words"):
        await loop.schedule_timer(f"wf_{done.run_id}", delay_s=0, note="hello")


async def test_whoever_recovers_nothing_leaves_runs_alone() -> None:
    store, clock = await manual_store()
    loop = loop_of(answering(lambda _, text: text), store)
    gate = {"type": "human", "id": "ask", "prompt": "Well?", "timeout_s": 60}
    waiting = await create_workflow({"name": "w", "root": gate}, parent_loop=loop).run()
    await store.create_timer(f"wf_{waiting.run_id}", due_at=clock.now_ms(), note="hello")
    assert await TimerRunner(loop).scan_once() == 1
    clock.jump(61)
    assert [await Worker(loop, recover=False).run_once() for _ in range(2)] == [0, 0]
    await Worker(loop).run_once()
    assert (await list_workflows(loop, None))[0]["status"] == "failed"


# --- time -----------------------------------------------------------------------------------------


# acceptance: 157
async def test_a_person_who_does_not_answer_in_time_is_not_waited_for() -> None:
    store, clock = await manual_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    gate = {"type": "human", "id": "ask", "prompt": "Well?", "timeout_s": 60, "on_timeout": "continue", "default": "no answer"}
    spec = {"name": "w", "root": {"type": "sequence", "steps": [gate, agent("end", input="{{ask}}")]}}
    waiting = await create_workflow(spec, parent_loop=loop).run()
    assert waiting.status == "waiting_for_input"
    await Worker(loop).run_once()
    assert (await list_workflows(loop, None))[0]["status"] == "waiting_for_input"
    clock.jump(61)
    await Worker(loop).run_once()
    found = await get_workflow(loop, None, waiting.run_id)
    assert (found["status"], found["final"]) == ("completed", "<no answer>")


# acceptance: 157 (timeout of a run)
async def test_a_run_that_takes_too_long_is_stopped_and_has_its_time_anew_when_it_is_resumed() -> None:
    store, paid = await open_store(), list[str]()

    async def reply(request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        if len(paid) == 1:
            paid.append("hung")
            await asyncio.Event().wait()
        paid.append(text)
        return text

    spec = fan(2, 1) | {"timeout_s": 1}
    loop = loop_of(FunctionLLM(reply), store)
    late = await create_workflow(spec, parent_loop=loop).run()
    assert (late.status, late.results["fan[0].one"].status) == ("timeout", "completed")
    assert (await resume_run(loop, None, late.run_id)).status == "completed"
    assert paid == ["item 0", "hung", "item 1", "sum of item 0\n\nitem 1"]


# --- cancelling, workers ----------------------------------------------------------------------------


# acceptance: 72
@pytest.mark.parametrize("kind", [CancellationToken, threading.Event, asyncio.Event, "callable"])
async def test_one_cancellation_object_of_any_kind_stops_a_run(kind: Any) -> None:
    begun, stopped = asyncio.Event(), threading.Event()

    async def hangs(request: LLMRequest) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    source = stopped.is_set if kind == "callable" else kind()
    loop = loop_of(FunctionLLM(hangs), await open_store())
    running = asyncio.create_task(create_workflow(fan(2), parent_loop=loop).run(stop_event=source))
    await begun.wait()
    _ = source.cancel("enough") if kind is CancellationToken else stopped.set() if kind == "callable" else source.set()
    assert (await running).status == "cancelled"


async def test_a_cancel_of_the_runs_session_stops_it_from_any_process() -> None:
    store, begun = await open_store(), asyncio.Event()

    async def hangs(request: LLMRequest) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    handle = await create_workflow(fan(2), parent_loop=loop_of(FunctionLLM(hangs), store)).start()
    await begun.wait()
    assert await loop_of(FunctionLLM(hangs), store).cancel(f"wf_{handle.run_id}", reason="not needed")
    result = await handle.task
    assert result.status == "cancelled"


@pytest.mark.parametrize("how", ["cancel", "stop_job", "abort_pending", "resume_run"])
async def test_a_run_that_waits_for_somebody_can_be_cancelled_and_gone_on_with(how: str) -> None:
    store = await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    waiting = await create_workflow(ASKING, parent_loop=loop, parent_session_id=parent).run()
    session, other = f"wf_{waiting.run_id}", loop_of(answering(lambda _, text: f"<{text}>"), store)
    stopped = CancellationToken()
    stopped.cancel("not needed")
    stops: dict[str, Callable[[], Any]] = {
        "cancel": lambda: other.cancel(session, reason="not needed"),
        "stop_job": lambda: other.stop_job(parent, session, reason="not needed"),
        "abort_pending": lambda: other.abort_pending(session, reason="not needed"),
        "resume_run": lambda: resume_run(other, parent, waiting.run_id, stop_event=stopped),
    }
    assert await stops[how]()
    assert [run["status"] for run in await list_workflows(loop, parent)] == ["cancelled"]
    assert [job.status for job in await loop.list_jobs(parent)] == ["stopped"]
    assert not await other.cancel(session)
    assert not await other.abort_pending(session)
    assert not await check_invariants(store, at_rest=True)
    assert (await resume_run(loop, parent, waiting.run_id)).status == "waiting_for_input"
    (asked,) = (await get_workflow(loop, parent, waiting.run_id))["waiting_for"]
    assert (await loop.submit_input(session, asked["interaction_id"], "yes")).final_text == "<yes: <go>>"


async def test_a_cancelled_run_that_waited_tells_its_parent() -> None:
    store, texts = await open_store(), list[str]()
    loop = loop_of(parent_and_leaves(texts), store)
    parent = await loop.new_session()
    handle = await run_detached(create_workflow(ASKING, parent_loop=loop, parent_session_id=parent))
    assert (await handle.task).status == "waiting_for_input"
    assert await loop.cancel(f"wf_{handle.run_id}")
    await Worker(loop).run_once()
    assert "ended: cancelled" in (await loop.get_messages(parent))[0]["content"]


async def test_a_session_that_only_bears_the_name_of_a_run_is_not_ended_by_a_cancel() -> None:
    @tool(effects="pure")
    async def ask() -> str:
        """Ask somebody."""
        raise HumanInputRequired("Which?")

    loop = loop_of(FunctionLLM(lambda _: call("ask")), await open_store(), tools=[ask])
    session = await loop.new_session(session_id="wf_mine")
    assert (await loop.send("go", session)).status == "waiting_for_input"
    assert not await loop.cancel(session)
    assert await loop.get_pending(session)


async def test_a_worker_without_workflows_leaves_runs_alone() -> None:
    store, clock = await manual_store()
    texts: list[str] = []
    dying = DyingStore(store, 5)
    first = StatefulAgentLoop(llm=parent_and_leaves(texts), store=dying)
    parent = await first.new_session()
    handle = await run_detached(create_workflow(fan(2), parent_loop=first, parent_session_id=parent))
    with suppress(Died):
        await handle.task
    loop = loop_of(parent_and_leaves(texts), store)
    for _ in range(3):
        clock.jump(60)
        await Worker(loop, workflows=False).run_once()
    assert (await list_workflows(loop, parent))[0]["status"] != "completed"
    for _ in range(3):
        clock.jump(60)
        await Worker(loop).run_once()
    assert (await list_workflows(loop, parent))[0]["status"] == "completed"


async def test_leaves_that_failed_with_the_one_that_halted_the_run_are_tried_again_when_it_is_resumed() -> None:
    store, failing = await open_store(), True

    def answer(prompt: str, text: str) -> str:
        if failing:
            raise RuntimeError("the network is down")
        return text

    loop = loop_of(answering(answer), store)
    failed = await create_workflow(fan(4), parent_loop=loop).run()
    assert failed.status == "failed"
    failing = False
    assert (await resume_run(loop, None, failed.run_id)).ok


async def test_a_run_is_exported_watched_and_shown_like_any_session() -> None:
    store, other = await open_store(), await open_store()
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    parent = await loop.new_session()
    waiting = await create_workflow(ASKING, parent_loop=loop, parent_session_id=parent).run()
    session = f"wf_{waiting.run_id}"
    events = [event.type async for event in loop.watch(session, follow=False)]
    assert "session_ended" in events
    assert (await loop.get_messages(session))[0]["content"] == "go"
    copy = await other.import_session(await store.export_session(parent, include_children=True))
    elsewhere = loop_of(answering(lambda _, text: f"<{text}>"), other)
    (run,) = await list_workflows(elsewhere, copy)
    (asked,) = (await get_workflow(elsewhere, copy, run["run_id"]))["waiting_for"]
    result = await elsewhere.submit_input(run["session_id"], asked["interaction_id"], "yes")
    assert result.final_text == "<yes: <go>>"


async def test_a_loop_that_closes_stops_a_run_that_somebody_waits_for_and_it_can_be_resumed() -> None:
    store, begun = await open_store(), asyncio.Event()

    async def hangs(request: LLMRequest) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    first = StatefulAgentLoop(llm=FunctionLLM(hangs), store=store)
    handle = await create_workflow(fan(2), parent_loop=first).start()
    await begun.wait()
    await first.aclose(drain_timeout_s=0.1)
    assert (await handle.task).status == "cancelled"
    loop = loop_of(answering(lambda _, text: f"<{text}>"), store)
    assert (await resume_run(loop, None, handle.run_id)).ok
    assert not await check_invariants(store, at_rest=True)


@pytest.mark.parametrize(("kind", "options", "wrong", "right"), [
    ("choice", ["red", {"id": "b", "label": "Blue"}, 3], ["green", "3", True, {}, "Blue"], "b"),
    ("choice", ["red", {"label": "Blue"}], ["blue", {}], "Blue"),
    ("confirm", [], ["maybe", 1, None], True),
])  # fmt: skip
async def test_an_answer_that_is_none_of_the_options_is_refused_and_the_question_stays_open(
    kind: str, options: list[Any], wrong: list[Any], right: Any
) -> None:
    loop = loop_of(answering(lambda _, text: text), await open_store())
    gate: dict[str, Any] = {"type": "human", "id": "ask", "prompt": "Which?", "kind": kind}
    if options:
        gate["options"] = options
    waiting = await create_workflow({"name": "w", "root": gate}, parent_loop=loop).run()
    run = f"wf_{waiting.run_id}"
    (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
    for answer in wrong:
        with pytest.raises(ValueError, match=r"is no answer to 'Which\?'; it is one of"):
            await loop.submit_input(run, asked["interaction_id"], answer)
    assert (await list_workflows(loop, None))[0]["status"] == "waiting_for_input"
    assert (await loop.submit_input(run, asked["interaction_id"], right)).status == "completed"


async def test_a_run_whose_last_batch_cannot_be_written_at_first_is_over_and_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    store, texts, refusing = await open_store(), list[str](), True
    append = store.append

    async def away(batch: Any) -> None:
        nonlocal refusing
        if refusing and any(row.cells.kind == "send_ended" and batch.seen.session_id.startswith("wf_") for row in batch.rows):
            refusing = False
            raise StoreUnavailable("no route to the database")
        await append(batch)

    monkeypatch.setattr(store, "append", away)
    loop = loop_of(parent_and_leaves(texts), store)
    parent = await loop.new_session()
    handle = await run_detached(create_workflow(fan(2), parent_loop=loop, parent_session_id=parent))
    with pytest.raises(StoreUnavailable):
        await handle.task
    await Worker(loop).run_once()
    assert [run["status"] for run in await list_workflows(loop, parent)] == ["completed"]
    assert wakes(texts) == 1
    assert not await check_invariants(store, at_rest=True)


async def test_more_items_than_there_may_be_and_what_is_no_list_fail_the_foreach_and_not_the_process() -> None:
    many = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(100_000)), "body": agent("one")}
    with pytest.raises(WorkflowSpecError, match=r"10,?000"):
        create_workflow({"name": "w", "root": many}, parent_loop=loop_of(answering(lambda _, text: text), await open_store()))
    for answer, said in ((list(range(100_000)), "10,?000"), ("no list", "list")):
        loop = loop_of(answering(lambda _, text, answer=answer: json.dumps({"topics": answer})), await open_store())  # type: ignore[misc]
        free = {"name": "topics", "schema": {"type": "object", "properties": {"topics": {}}, "required": ["topics"]}}
        each = {"type": "foreach", "id": "fan", "as": "n", "items_from": "plan.topics", "body": agent("one")}
        spec = {"name": "w", "root": {"type": "sequence", "steps": [agent("plan", output_schema=free), each]}}
        result = await create_workflow(spec, parent_loop=loop).run()
        assert result.status == "failed"
        assert re.search(said, result.errors[0]["error"]), result.errors


def test_references_in_a_circle_are_problems_each_of_them() -> None:
    steps = [agent("a", inputs_from=["b"]), agent("b", inputs_from=["a", "b"]), agent("c", input="{{a}}", inputs_from=["c"])]
    with pytest.raises(WorkflowSpecError) as refused:
        WorkflowSpec.from_json({"name": "w", "root": {"type": "sequence", "steps": steps}})
    assert len(refused.value.problems) == 3, refused.value.problems
