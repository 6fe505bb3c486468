"""Tools of one round run side by side, each is a neighbour to the others, and a parked one holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from power_loop import AgentLoopConfig, HumanInputRequired, ToolDefinition, ToolPolicy, ToolRegistry, ToolRun, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say

LONG_S = 100


# acceptance: 129
async def test_eight_async_tools_of_one_round_run_side_by_side(home: Any) -> None:
    meet = asyncio.Barrier(8)

    async def join(n: int) -> str:
        """Wait for all the others."""
        await meet.wait()
        return f"number {n}"

    loop = home.loop(calls(*(call("join", n=n) for n in range(8))), "done", tools=[join])
    async with asyncio.timeout(LONG_S):
        await loop.run("go")
    assert [m["content"] for m in loop.llm.requests[1].messages if m["role"] == "tool"] == [f"number {n}" for n in range(8)]


# acceptance: 129 (sync handlers)
async def test_eight_sync_tools_of_one_round_run_side_by_side(home: Any) -> None:
    meet = threading.Barrier(8)

    def join(n: int) -> str:
        """Wait for all the others."""
        meet.wait(LONG_S)
        return f"number {n}"

    loop = home.loop(calls(*(call("join", n=n) for n in range(8))), "done", tools=[join])
    await loop.run("go")
    assert [m["content"] for m in loop.llm.requests[1].messages if m["role"] == "tool"] == [f"number {n}" for n in range(8)]


# acceptance: 129 (the order of results)
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)])
async def test_results_stand_in_call_order_whatever_the_order_of_completion(home: Any, order: tuple[int, ...]) -> None:
    done = [asyncio.Event() for _ in order]
    landed: list[int] = []

    async def work(n: int) -> str:
        """Finish in the order that the test wants."""
        before = order[: order.index(n)]
        for each in before:
            await done[each].wait()
        landed.append(n)
        done[n].set()
        return f"number {n}"

    loop = home.loop(calls(*(call("work", n=n) for n in range(3))), "done", tools=[work])
    session = await loop.new_session()
    await loop.send("go", session)
    assert landed == list(order)
    expected = [f"number {n}" for n in range(3)]
    for messages in (loop.llm.requests[1].messages, await loop.get_messages(session), await home.loop().get_messages(session)):
        assert [m["content"] for m in messages if m["role"] == "tool"] == expected


async def test_a_result_is_stored_while_its_neighbours_still_run(home: Any) -> None:
    stored: list[Any] = []

    async def quick() -> str:
        """Be done."""
        return "quick result"

    async def patient(run: ToolRun) -> str:
        """Wait until the neighbour's result is in the database."""
        async with asyncio.timeout(LONG_S):
            while not stored:
                rows = await run.store.load_all_messages(run.session_id)
                stored.extend(row.content for row in rows if row.role == "tool")
                await asyncio.sleep(0)
        return "patient result"

    loop = home.loop(calls(call("patient"), call("quick")), "done", tools=[quick, patient])
    await loop.run("go")
    assert stored == ["quick result"]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_than_concurrency_run_at_once(home: Any, concurrency: int) -> None:
    running, most = 0, 0

    async def work() -> str:
        """Count who is here."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return ""

    config = AgentLoopConfig(tooling=ToolPolicy(concurrency=concurrency))
    await home.loop(calls(*[call("work")] * 7), "done", tools=[work], config=config).run("go")
    assert most == concurrency


def diary(log: list[str], *, barrier: Any) -> ToolRegistry:
    """Tools ``a`` to ``e`` that write down when they begin and end; those in ``barrier`` are not parallel."""

    def made(name: str) -> Any:
        @tool(name=name, parallel=name not in barrier)
        async def work() -> str:
            """Write it down."""
            log.append(f"+{name}")
            for _ in range(5):
                await asyncio.sleep(0)
            log.append(f"-{name}")
            return name

        return work

    return ToolRegistry([made(name) for name in "abcde"])


async def test_a_tool_that_a_hook_names_is_a_barrier_where_it_is_not_parallel(home: Any) -> None:
    def rename(ctx: Any) -> None:
        if ctx.tool_name == "b":
            ctx.tool_name = "d"

    log: list[str] = []
    loop = home.loop(calls(*map(call, "aabcc")), "done", tool_registry=diary(log, barrier="d"))
    loop.hooks.register("tool.before", rename)
    await loop.run("go")
    assert log == ["+a", "+a", "-a", "-a", "+d", "-d", "+c", "+c", "-c", "-c"]


# acceptance: 130
async def test_a_tool_that_is_not_parallel_is_a_barrier_to_both_sides(home: Any) -> None:
    log: list[str] = []
    loop = home.loop(calls(*(call(name) for name in "abcde")), "done", tool_registry=diary(log, barrier="c"))
    await loop.run("go")
    assert set(log[:4]) == {"+a", "+b", "-a", "-b"}
    assert log[4:6] == ["+c", "-c"]
    assert set(log[6:]) == {"+d", "+e", "-d", "-e"}
    assert log[:2] == ["+a", "+b"], "neighbours do run side by side"
    assert log[6:8] == ["+d", "+e"]


# acceptance: 130 (what is parallel by default)
async def test_a_definition_that_says_nothing_runs_alone_unless_it_is_pure(home: Any) -> None:
    log: list[str] = []

    def handler(name: str) -> Any:
        async def work() -> str:
            log.append(f"+{name}")
            await asyncio.sleep(0)
            log.append(f"-{name}")
            return ""

        return work

    registry = ToolRegistry()
    for name, effects in (("x", None), ("y", "once"), ("p", "pure"), ("q", "pure")):
        registry.register(ToolDefinition(name, effects=effects), handler(name))
    await home.loop(calls(*(call(name) for name in "xypq")), "done", tool_registry=registry).run("go")
    assert log == ["+x", "-x", "+y", "-y", "+p", "+q", "-p", "-q"]


# --- questions to someone outside ------------------------------------------------------------------------------


def ask(what: str) -> str:
    """Ask a human."""
    raise HumanInputRequired(f"May I {what}?", kind="confirm", options=[{"value": "yes"}], metadata={"risk": "low"})


# acceptance: 131
async def test_a_parked_call_does_not_stop_its_siblings_and_is_answered_later(home: Any) -> None:
    ran: list[str] = []

    def work(n: str) -> str:
        """Work."""
        ran.append(n)
        return n

    script = calls(call("work", n="1"), call("ask", what="eat"), call("work", n="2"), call("ask", what="drink"), text="I ask.")
    loop = home.loop(script, tools=[work, ask])
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.final_text, ran) == ("waiting_for_input", "I ask.", ["1", "2"])
    eat, drink = result.pending_interactions
    assert (eat["prompt"], eat["kind"], eat["options"], eat["metadata"]) == ("May I eat?", "confirm", [{"value": "yes"}], {"risk": "low"})
    assert (eat["tool_name"], eat["tool_call_id"], len(eat["interaction_id"])) == ("ask", "call_2", len("input_") + 16)
    assert [c["id"] for c in result.pending_tool_calls] == ["call_2", "call_4"]

    later = home.loop("Thank you.", tools=[work, ask])
    assert (await later.get_pending(session))["pending_interactions"] == [eat, drink]
    waiting = await later.submit_input(session, drink["interaction_id"], {"answer": "ja", "glasses": 2})
    assert (waiting.status, waiting.pending_interactions) == ("waiting_for_input", [eat])
    assert later.llm.requests == []
    done = await later.submit_input(session, eat["interaction_id"], "yes, eat")
    assert (done.status, done.final_text, done.send_index, ran) == ("completed", "Thank you.", 1, ["1", "2"])
    assert [m["content"] for m in later.llm.requests[0].messages if m["role"] == "tool"] == [
        *("1", "yes, eat", "2"),
        '{"answer":"ja","glasses":2}',
    ]
    check_pairs(later.llm.requests[0].messages)


# acceptance: 131 (a resume while it waits)
async def test_a_resume_while_all_calls_are_parked_runs_nothing(home: Any) -> None:
    loop = home.loop(call("ask", what="eat"), tools=[ask])
    session = await loop.new_session()
    await loop.send("go", session)
    before = await home.contents()
    result = await loop.resume(session)
    assert (result.status, result.rounds, len(result.pending_interactions)) == ("waiting_for_input", 0, 1)
    assert await home.contents() == before


async def test_an_answer_is_taken_once_and_only_for_a_question_that_was_asked(home: Any) -> None:
    loop = home.loop(call("ask", what="eat"), "Thanks.", tools=[ask])
    session = await loop.new_session()
    (question,) = (await loop.send("go", session)).pending_interactions
    with pytest.raises(ValueError, match="input_unknown"):
        await loop.submit_input(session, "input_unknown", "yes")
    await loop.submit_input(session, question["interaction_id"], "yes")
    with pytest.raises(ValueError, match=question["interaction_id"]):
        await loop.submit_input(session, question["interaction_id"], "no")
    assert [m["content"] for m in await loop.get_messages(session)] == ["go", "", "yes", "Thanks."]


async def test_an_answer_that_is_no_json_is_refused_and_the_question_stays(home: Any) -> None:
    loop = home.loop(call("ask", what="eat"), "Thanks.", tools=[ask])
    session = await loop.new_session()
    (question,) = (await loop.send("go", session)).pending_interactions
    with pytest.raises(TypeError):
        await loop.submit_input(session, question["interaction_id"], object())
    assert (await loop.submit_input(session, question["interaction_id"], None)).status == "completed"
    assert [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"] == ["null"]


async def test_the_same_question_is_asked_by_one_of_two_answers_at_once(home: Any) -> None:
    loop = home.loop(call("ask", what="eat"), "Thanks.", tools=[ask])
    session = await loop.new_session()
    (question,) = (await loop.send("go", session)).pending_interactions
    given = [loop.submit_input(session, question["interaction_id"], f"answer {n}") for n in range(2)]
    answers = await asyncio.gather(*given, return_exceptions=True)
    assert [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"] in (["answer 0"], ["answer 1"])
    assert not [each for each in answers if isinstance(each, BaseException) and not isinstance(each, ValueError)]


async def test_a_send_on_a_waiting_session_is_refused_with_its_questions(home: Any) -> None:
    from power_loop import SessionPendingError

    loop = home.loop(call("ask", what="eat"), tools=[ask])
    session = await loop.new_session()
    asked = (await loop.send("go", session)).pending_interactions
    with pytest.raises(SessionPendingError) as refused:
        await loop.send("hello?", session)
    assert refused.value.pending_interactions == asked


async def test_a_question_that_cannot_be_stored_is_a_readable_failure(home: Any) -> None:
    def ask_badly() -> str:
        """Ask with something that has no JSON."""
        raise HumanInputRequired("really?", metadata={"who": object()})

    loop = home.loop(call("ask_badly"), "done", tools=[ask_badly])
    result = await loop.run("go")
    assert (result.status, result.final_text) == ("completed", "done")
    assert loop.llm.requests[1].messages[-1]["content"].startswith("Error")


# --- handlers that block ------------------------------------------------------------------------------------------


# acceptance: 45
async def test_eight_sessions_inside_blocking_handlers_delay_neither_sends_nor_the_store(home: Any) -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()

    def block() -> str:
        """Block the thread."""
        inside.release()
        go_on.wait(LONG_S)
        return "unblocked"

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        return call("block") if last["content"] == "block" else say(f"re: {last['content']}")

    loop = home.loop(llm=FunctionLLM(answer), tools=[block])
    sessions = [await loop.new_session() for _ in range(8)]
    blocked = [asyncio.create_task(loop.send("block", session)) for session in sessions]
    try:
        for _ in sessions:
            await asyncio.to_thread(inside.acquire, timeout=LONG_S)
        async with asyncio.timeout(LONG_S):
            free = await loop.new_session()
            assert [(await loop.send(str(n), free)).final_text for n in range(5)] == [f"re: {n}" for n in range(5)]
            store = await loop.ensure_store()
            await store.set_runtime_state(free, "key", 1)
            assert await store.get_runtime_state(free, "key") == 1
            assert len(await loop.get_messages(sessions[0])) == 2
            assert (await loop.follow_up("and then?", sessions[0])).queue_depth == 1
        assert not any(task.done() for task in blocked), "all of that while eight handlers block"
    finally:
        go_on.set()
        results = await asyncio.gather(*blocked)
    assert {result.status for result in results} == {"completed"}
    assert results[0].final_text == "re: <follow_up>\nand then?\n</follow_up>"


# acceptance: 45 (async handlers)
async def test_an_async_handler_runs_in_the_event_loop_and_a_sync_one_in_a_thread(home: Any) -> None:
    where: dict[str, str] = {}

    async def here() -> str:
        """Stay."""
        where["async"] = threading.current_thread().name
        return ""

    def there() -> str:
        """Go."""
        where["sync"] = threading.current_thread().name
        return ""

    await home.loop(calls(call("here"), call("there")), "done", tools=[here, there]).run("go")
    assert where["async"] == threading.current_thread().name
    assert where["sync"].startswith("power-loop-tool")


async def test_a_sync_handler_sees_the_callers_context_variables(home: Any) -> None:
    from contextvars import ContextVar

    user: ContextVar[str] = ContextVar("user", default="nobody")

    def who() -> str:
        """Say who."""
        return user.get()

    loop = home.loop(llm=ScriptedLLM([call("who"), "done", call("who"), "done"]), tools=[who])
    for name in ("ann", "bob"):
        user.set(name)
        await loop.run("go")
    assert [request.messages[-1]["content"] for request in loop.llm.requests[1::2]] == ["ann", "bob"]
