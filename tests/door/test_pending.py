"""Calls without a result: refused by name, never healed unasked, run once by `resume`, answered once by `abort_pending`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import pytest

from power_loop import (
    CancellationToken,
    HookDirective,
    HumanInputRequired,
    LLMRequest,
    LLMRetryPolicy,
    SessionPendingError,
    TimerRunner,
    UsageLimits,
    tool,
)
from power_loop.context.pairing import check_pairs
from power_loop.providers.anthropic.request import wire_messages
from power_loop.testing import ScriptedLLM, call, calls, fail, hang, say


class Tools:
    """Two tools, of which the second is in the middle of its work when the task is cancelled."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.hanging = asyncio.Event()
        self.hangs = True

    def offered(self, effects: Any = None) -> list[Any]:
        @tool(effects=effects, parallel=False)
        async def write(text: str) -> str:
            """Write."""
            self.ran.append(text)
            if text == "hang" and self.hangs:
                self.hanging.set()
                await asyncio.Event().wait()
            return f"wrote {text}"

        return [write]


BOTH = calls(call("write", text="one"), call("write", text="hang"), call("write", text="three"), text="I shall write.")


async def cut_off(home: Any, tools: Tools, effects: Any = None) -> str:
    """A session whose task was cancelled while the second of three calls ran: one result, one begun, one not begun."""
    loop = home.loop(BOTH, tools=tools.offered(effects))
    session = await loop.new_session()
    task = asyncio.create_task(loop.send("go", session))
    await tools.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    tools.hangs = False
    return session


# acceptance: 33 (the task is cancelled)
async def test_a_send_on_unresolved_calls_is_refused_with_all_it_takes_to_resolve_them(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop(tools=tools.offered())
    before = await home.contents()
    with pytest.raises(SessionPendingError) as refused:
        await loop.send("hello?", session)
    error = refused.value
    rows = await (await loop.ensure_store()).load_all_messages(session)
    assert (error.session_id, error.assistant_seq) == (session, rows[1].seq)
    assert [c["function"]["arguments"] for c in error.pending_tool_calls] == ['{"text": "hang"}', '{"text": "three"}']
    assert [c["id"] for c in error.pending_tool_calls] == [c["id"] for c in rows[1].tool_calls[1:]]
    for word in ("write", "resume()", "abort_pending()", "heal_pending=True", session):
        assert word in str(error)
    assert await home.contents() == before
    assert loop.llm.requests == []


async def test_the_same_loop_that_was_cut_off_refuses_too(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    with pytest.raises(SessionPendingError):
        await home.loops[0].send("hello?", session)
    with pytest.raises(SessionPendingError):
        await home.loops[0].follow_up("hello?", session)


async def test_what_is_pending_can_be_looked_up(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    pending = await home.loop().get_pending(session)
    assert set(pending) == {
        *("assistant_seq", "send_index", "round_index", "tool_call_ids", "tool_calls", "pending_interactions", "unknown_call_ids")
    }
    assert (pending["send_index"], pending["round_index"], pending["pending_interactions"]) == (1, 0, [])
    assert pending["tool_call_ids"] == [c["id"] for c in pending["tool_calls"]] == ["call_2", "call_3"]
    assert pending["unknown_call_ids"] == ["call_2"]
    fresh = home.loop("a")
    other = await fresh.new_session()
    assert await fresh.get_pending(other) is None
    await fresh.send("x", other)
    assert await fresh.get_pending(other) is None


# acceptance: 34
async def test_heal_pending_answers_the_calls_as_aborted_and_goes_on(home: Any, caplog: pytest.LogCaptureFixture) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("fine", tools=tools.offered())
    result = await loop.send("go on", session, heal_pending=True)
    assert (result.status, result.send_index) == ("completed", 2)
    request: LLMRequest = loop.llm.requests[0]
    check_pairs(request.messages)
    results = [m["content"] for m in request.messages if m["role"] == "tool"]
    assert results[0] == "wrote one"
    assert all(text.startswith("<aborted") for text in results[1:])
    assert "may or may not" in results[1], "it had begun"
    assert "may or may not" not in results[2]
    assert tools.ran == ["one", "hang"]
    assert "2 unresolved calls were aborted" in caplog.text


# acceptance: 34 (the provider's protocol)
async def test_the_healed_request_keeps_the_protocol_of_both_providers(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("fine", tools=tools.offered())
    await loop.send("go on", session, heal_pending=True)
    request = loop.llm.requests[0]
    chat = request.to_messages()
    asked = [c["id"] for m in chat for c in m.get("tool_calls", ())]
    assert asked == [m["tool_call_id"] for m in chat if m["role"] == "tool"]
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "tool", "tool", "tool", "user"]
    messages = wire_messages(request.messages)
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    used = [block["id"] for block in messages[1]["content"] if block["type"] == "tool_use"]
    assert [block.get("tool_use_id") for block in messages[2]["content"]][: len(used)] == used


async def test_heal_pending_on_a_sound_session_changes_nothing(home: Any) -> None:
    loop = home.loop("a", "b")
    session = await loop.new_session()
    await loop.send("x", session, heal_pending=True)
    await loop.send("y", session, heal_pending=True)
    assert [m["content"] for m in await loop.get_messages(session)] == ["x", "a", "y", "b"]


KILLED = """
import asyncio, os, signal, sys
from power_loop import StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, calls

@tool
def write(text: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)

async def main() -> None:
    asked = calls(call("write", text="one"), call("write", text="two"))
    await StatefulAgentLoop(llm=ScriptedLLM([asked]), dsn=sys.argv[1], tools=[write]).send("go", sys.argv[2])

asyncio.run(main())
"""


# acceptance: 33 (the process was killed), 34 (the process was killed)
async def test_what_a_killed_process_left_open_is_refused_by_name_and_healed_when_asked(file_home: Any) -> None:
    tools = Tools()
    loop = file_home.loop("fine", tools=tools.offered())
    session = await loop.new_session()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, file_home.dsn, session)
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    before = await file_home.contents()
    with pytest.raises(SessionPendingError) as refused:
        await loop.send("hello?", session)
    assert (refused.value.session_id, refused.value.assistant_seq) == (session, 2)
    assert [c["id"] for c in refused.value.pending_tool_calls] == ["call_1", "call_2"]
    assert await file_home.contents() == before
    assert (await loop.send("go on", session, heal_pending=True)).final_text == "fine"
    check_pairs(loop.llm.requests[0].messages)
    results = [m["content"] for m in loop.llm.requests[0].messages if m["role"] == "tool"]
    assert [text.startswith("<aborted") for text in results] == [True, True]
    assert tools.ran == []


# acceptance: 99 (resumes and repairs)
@pytest.mark.parametrize("how", ["resume", "abort_pending", "heal_pending", "doctor"])
async def test_whatever_resolves_open_calls_leaves_the_stored_rows_as_they_are(file_home: Any, how: str) -> None:
    tools = Tools()
    session = await cut_off(file_home, tools)
    loop = file_home.loop("fine", tools=tools.offered())
    store = await loop.ensure_store()
    before = await store.load_all_messages(session)
    if how == "heal_pending":
        await loop.send("go on", session, heal_pending=True)
    else:
        await getattr(loop, how)(session, **({"repair": True} if how == "doctor" else {}))
    after = {row.seq: row for row in await store.load_all_messages(session)}
    assert len(after) > len(before)
    assert [after[row.seq] for row in before] == before


# acceptance: 35
@pytest.mark.parametrize("look", ["prewarm", "get_messages", "get_pending", "get_session_stats", "cancel", "inbox", "doctor"])
async def test_nothing_is_healed_without_being_asked(home: Any, look: str) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    before = await home.contents()
    await getattr(home.loop(tools=tools.offered()), look)(session)
    for verb in ("send", "follow_up"):
        with pytest.raises(SessionPendingError):
            await getattr(home.loop(), verb)("x", session)
    with pytest.raises(SessionPendingError):
        async for _ in home.loop().stream("x", session):
            pass
    assert await home.contents() == before
    assert tools.ran == ["one", "hang"]


# acceptance: 35 (a timer, and what is enqueued)
async def test_neither_a_timer_nor_a_word_that_waits_heals_anything(file_home: Any) -> None:
    tools = Tools()
    session = await cut_off(file_home, tools)
    loop = file_home.loop(tools=tools.offered())
    before = await loop.get_messages(session)
    await loop.enqueue("by the way", session)
    await loop.schedule_timer(session, delay_s=0, note="wake up")
    assert await TimerRunner(loop).scan_once() == 1
    assert await loop.get_messages(session) == before
    assert (await loop.get_pending(session))["unknown_call_ids"] == ["call_2"]
    assert tools.ran == ["one", "hang"]


# acceptance: 36 (begun calls by their class)
@pytest.mark.parametrize(("effects", "ran"), [(None, ["three"]), ("once", ["three"]), ("idempotent", ["hang", "three"])])
async def test_a_resume_runs_what_had_not_begun_exactly_once_and_reaches_an_answer(home: Any, effects: Any, ran: list[str]) -> None:
    tools = Tools()
    session = await cut_off(home, tools, effects)
    tools.ran.clear()
    loop = home.loop("all written", tools=tools.offered(effects))
    result = await loop.resume(session)
    assert (result.status, result.final_text, result.send_index) == ("completed", "all written", 1)
    assert tools.ran == ran
    messages = await loop.get_messages(session)
    check_pairs(messages)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "tool", "assistant"], "and no second user row"
    first, second, third = (m["content"] for m in messages if m["role"] == "tool")
    assert (first, third) == ("wrote one", "wrote three")
    assert second == "wrote hang" if "hang" in ran else "unknown" in second
    assert await loop.get_pending(session) is None


# acceptance: 36 (twice)
async def test_a_second_resume_has_nothing_left_to_run(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("all written", tools=tools.offered())
    first = await loop.resume(session)
    ran = list(tools.ran)
    second = await loop.resume(session)
    assert (second.status, second.final_text, second.rounds) == (first.status, first.final_text, 0)
    assert tools.ran == ran


async def test_a_call_of_unknown_outcome_is_never_told_as_failed(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("I see", tools=tools.offered())
    heard: list[Any] = []
    loop.event_bus.subscribe("tool_call_completed", heard.append)
    await loop.resume(session)
    told = {event.payload["tool_call_id"]: event.payload for event in heard}
    assert (told["call_2"]["outcome"], told["call_2"]["failed"]) == ("unknown", False)
    second = [m for m in loop.llm.requests[0].messages if m["role"] == "tool"][1]
    assert "may or may not have taken effect" in second["content"]
    assert "is_error" not in second


async def test_an_unknown_call_is_run_again_on_the_callers_word(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("all written", tools=tools.offered())
    await loop.resume(session, unknown="rerun")
    assert tools.ran == ["one", "hang", "hang", "three"]
    assert [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"] == ["wrote one", "wrote hang", "wrote three"]


async def test_an_unknown_call_becomes_a_question_when_the_caller_wants_to_look(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("all written", tools=tools.offered())
    waiting = await loop.resume(session, unknown="ask")
    (question,) = waiting.pending_interactions
    assert (waiting.status, question["kind"], question["tool_call_id"]) == ("waiting_for_input", "unknown", "call_2")
    assert tools.ran == ["one", "hang", "three"], "its sibling ran"
    done = await loop.submit_input(session, question["interaction_id"], "it was written")
    assert (done.status, tools.ran) == ("completed", ["one", "hang", "three"])
    assert [m["content"] for m in loop.llm.requests[0].messages if m["role"] == "tool"][1] == "it was written"


# acceptance: 37
async def test_abort_pending_answers_every_open_call_and_leaves_the_session_sendable(home: Any) -> None:
    tools = Tools()
    session = await cut_off(home, tools)
    loop = home.loop("fine", tools=tools.offered())
    assert await loop.abort_pending(session, reason="the user left") == 2
    results = [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"]
    assert results[2] == "<aborted: the user left>"
    assert results[1].startswith("<aborted: the user left>")
    assert "may or may not" in results[1]
    assert await loop.abort_pending(session) == 0
    assert await loop.get_pending(session) is None
    assert (await loop.send("hello", session)).final_text == "fine"
    check_pairs(loop.llm.requests[0].messages)


# acceptance: 37 (parked calls)
async def test_abort_pending_answers_parked_calls_too(home: Any) -> None:
    def ask(what: str) -> str:
        """Ask."""
        raise HumanInputRequired(what)

    loop = home.loop(calls(call("ask", what="a"), call("ask", what="b")), "fine", tools=[ask])
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "waiting_for_input"
    assert await loop.abort_pending(session) == 2
    assert (await loop.send("never mind", session)).status == "completed"


async def test_abort_pending_of_a_session_without_open_calls_writes_nothing(home: Any) -> None:
    loop = home.loop("a")
    session = await loop.new_session()
    await loop.send("x", session)
    before = await home.contents()
    assert await loop.abort_pending(session) == 0
    assert await home.contents() == before


async def test_a_resume_of_a_fresh_session_has_nothing_to_say(home: Any) -> None:
    loop = home.loop()
    session = await loop.new_session()
    before = await home.contents()
    result = await loop.resume(session)
    assert (result.rounds, result.send_index, loop.llm.requests) == (0, 0, [])
    assert await home.contents() == before


async def test_after_a_failed_model_call_resume_tries_again_without_a_second_row(home: Any) -> None:
    loop = home.loop(fail(ConnectionError("cut")), "at last")
    session = await loop.new_session()
    with pytest.raises(Exception, match="cut"):
        await loop.send("go", session)
    stored = await loop.resume(session)
    assert (stored.final_text, stored.send_index) == ("at last", 1)
    assert [m["content"] for m in await loop.get_messages(session)] == ["go", "at last"]


async def test_after_a_failed_model_call_the_next_send_shows_both_texts(home: Any) -> None:
    loop = home.loop(fail(ConnectionError("cut")), "both heard")
    session = await loop.new_session()
    with pytest.raises(Exception, match="cut"):
        await loop.send("one", session)
    await loop.send("two", session)
    assert [m["content"] for m in loop.llm.requests[1].messages] == ["one", "two"]


# --- a plain send works after every kind of ending -------------------------------------------------------


def slow_tools() -> list[Any]:
    async def slow() -> str:
        """Wait for a cancel."""
        await asyncio.Event().wait()
        return ""

    def quick() -> str:
        """Be done."""
        return "done"

    return [slow, quick]


def hooked(point: str, directive: HookDirective) -> Any:
    def prepare(loop: Any) -> None:
        loop.hooks.register(point, lambda ctx: directive, name="once")

    return prepare


TOOL_ROUND = calls(call("quick"), call("quick"))
# How a first send may end: (its script, what it is told, how its loop is prepared, its status)
ENDINGS: dict[str, tuple[list[Any], dict[str, Any], Any, str]] = {
    "answered": (["fine"], {}, None, "completed"),
    "a token in a model call": ([hang()], {"stop_event": "llm_call_started"}, None, "cancelled"),
    "a token in tools": ([calls(call("slow"), call("quick"), call("slow"))], {"stop_event": "tool_call_started"}, None, "cancelled"),
    "a token set before": ([], {"stop_event": "now"}, None, "cancelled"),
    "rounds": ([TOOL_ROUND, "summary"], {"max_rounds": 1}, None, "hit_round_limit"),
    "requests": ([TOOL_ROUND], {"limits": UsageLimits(requests=1)}, None, "budget_exceeded"),
    "tokens": ([TOOL_ROUND], {"limits": UsageLimits(total_tokens=1)}, None, "budget_exceeded"),
    "empty": (["", ""], {}, None, "completed"),
    "degraded": ([fail(ConnectionError("cut"))], {}, "retry", "degraded"),
} | {
    f"{directive} at {point}": ([TOOL_ROUND, "fine"], {}, hooked(point, directive), "")
    for directive in (HookDirective.BREAK, HookDirective.CANCEL, HookDirective.SKIP)
    for point in (
        *("session.start", "round.start", "llm.before", "llm.after", "round.decide", "tools.batch.before", "tool.before"),
        *("tool.after", "tools.batch.after", "round.end", "complete.decide", "session.end", "message.append"),
    )
}  # fmt: skip


# acceptance: 38
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_plain_send_works_after_this_ending(home: Any, ending: str) -> None:
    script, how, prepare, status = ENDINGS[ending]
    loop = home.loop(llm=ScriptedLLM([*script, say("fine")], strict=False), tools=slow_tools())
    if prepare == "retry":
        loop.config.retry_policy = LLMRetryPolicy(max_attempts=1)
    elif prepare is not None:
        prepare(loop)
    token = CancellationToken()
    if how.get("stop_event") == "now":
        token.cancel("enough")
    elif "stop_event" in how:
        loop.event_bus.subscribe(how["stop_event"], lambda event: token.cancel("enough"))
    session = await loop.new_session()
    result = await loop.send("go", session, **{**how, "stop_event": token})
    assert result.status == (status or result.status)
    messages = await loop.get_messages(session)
    check_pairs(messages)
    assert await loop.get_pending(session) is None
    loop.hooks.clear()
    for each in (loop, home.loop("fine", tools=slow_tools())):
        assert (await each.send("and now?", session)).final_text == "fine"
