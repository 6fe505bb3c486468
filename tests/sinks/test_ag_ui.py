"""A loop behind AG-UI gives an interface the same conversation as a direct send, also over connections that break."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from ag_ui.core import RunAgentInput
from ag_ui_client import Interface, run_input

from power_loop import (
    AgentEvent,
    AgentLoopConfig,
    ContextPolicy,
    LLMResponse,
    LLMRetryPolicy,
    LLMSummaryFold,
    StatefulAgentLoop,
    ToolRegistry,
    register_spawn_agent,
    request_user_input,
    tool,
)
from power_loop.contrib.ag_ui import AgUiEncoder, run_sse, sse
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, hang, say

NO_WAIT = LLMRetryPolicy(max_attempts=2, backoff_initial=0.0001, backoff_max=0.0001)
SCRIPT = (
    calls(call("look", at="a"), call("break_it"), text="Let me look."),
    say("There is one thing, and it broke.", think="hm, hm"),
)


async def read(interface: Interface, loop: Any, session: str, asked: Any = None, *, stop_after: int | None = None) -> Interface:
    """One connection; broken after so many frames."""
    stream = run_sse(loop, asked or run_input(), session_id=session, last_event_id=interface.last_id)
    async with aclosing(stream) as frames, asyncio.timeout(100):
        for n in itertools.count(1):
            try:
                interface.read(await anext(frames))
            except StopAsyncIteration:
                break
            if n == stop_after:
                break
    return interface


# acceptance: 183 (AG-UI)
async def test_a_run_gives_the_conversation_of_a_direct_send(stage: Any) -> None:
    loop = stage.loop(*SCRIPT)
    session = await loop.new_session()
    seen = await read(Interface(), loop, session)
    direct = stage.loop(*SCRIPT, dsn=":memory:")
    result = await direct.run("What is there?")
    assert seen.said == ["Let me look.", result.final_text]
    rows = await direct.get_messages(result.session_id)
    assert list(seen.arguments.values()) == [each["function"]["arguments"] for each in rows[1]["tool_calls"]]
    assert sorted(seen.results.values()) == sorted(row["content"] for row in rows if row["role"] == "tool"), (
        "in the order in which they came"
    )
    assert seen.end["outcome"] == {"type": "success"}
    assert seen.end["usage"][0]["totalTokens"] == result.usage["total_tokens"]
    assert seen.kinds == [
        "RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
        "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END",
        "TOOL_CALL_RESULT", "TOOL_CALL_RESULT", "STEP_FINISHED", "STEP_STARTED",
        "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END", "REASONING_END",
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED",
    ]  # fmt: skip


# acceptance: 183 (AG-UI, Last-Event-ID)
@pytest.mark.parametrize("stop_after", range(1, 26))
async def test_a_connection_that_breaks_anywhere_goes_on_without_gap_or_repeat(stage: Any, stop_after: int) -> None:
    loop = stage.loop(*SCRIPT)
    session = await loop.new_session()
    seen = await read(Interface(), loop, session, stop_after=stop_after)
    await read(seen, loop, session)
    assert seen.said == ["Let me look.", "There is one thing, and it broke."]
    assert len(seen.results) == 2
    assert [kind for kind in seen.kinds if not kind.startswith("REASONING")] == [
        "RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
        "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END",
        "TOOL_CALL_RESULT", "TOOL_CALL_RESULT", "STEP_FINISHED", "STEP_STARTED",
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED",
    ]  # fmt: skip
    assert (await loop.get_session_stats(session)).sends == 1


async def test_a_connection_that_breaks_after_every_event_loses_and_repeats_nothing(stage: Any) -> None:
    loop = stage.loop(*SCRIPT)
    session = await loop.new_session()
    seen = Interface()
    for _ in range(100):
        await read(seen, loop, session, stop_after=1)
        if seen.end["type"] == "RUN_FINISHED":
            break
    assert seen.said == ["Let me look.", "There is one thing, and it broke."]
    assert len(seen.results) == 2
    assert len(loop.llm.requests) == 2


async def test_another_process_goes_on_with_the_stream_of_a_run_that_is_over(stage: Any) -> None:
    loop = stage.loop(*SCRIPT)
    session = await loop.new_session()
    seen = await read(Interface(), loop, session, stop_after=7)
    await loop.aclose()
    other = stage.loop()
    await read(seen, other, session)
    assert seen.end["type"] == "RUN_FINISHED"
    assert seen.said[0] == "Let me look."


async def test_the_same_run_asked_for_again_is_told_whole_and_not_run_again(stage: Any) -> None:
    loop = stage.loop(*SCRIPT)
    session = await loop.new_session()
    first = await read(Interface(), loop, session)
    again = await read(Interface(), loop, session)
    assert again.said == first.said
    assert again.results == first.results
    assert len(loop.llm.requests) == 2


async def test_a_text_that_a_failed_attempt_showed_is_taken_back(stage: Any) -> None:
    loop = stage.loop(fail(ConnectionError("gone"), after="I wi"), say("Here."), config=AgentLoopConfig(retry_policy=NO_WAIT))
    seen = await read(Interface(), loop, await loop.new_session())
    assert seen.said == ["Here."]
    assert [seen.messages[id] for id in seen.withdrawn] == ["I wi"]


async def test_a_text_that_was_half_shown_when_the_send_is_cancelled_is_taken_back(stage: Any) -> None:
    loop = stage.loop(hang(after="Once upon a time there "), say("x"))
    session = await loop.new_session()
    seen = Interface()
    stream = run_sse(loop, run_input(), session_id=session)
    async with aclosing(stream) as frames, asyncio.timeout(100):
        while "there" not in "".join(seen.messages.values()):
            seen.read(await anext(frames))
    await loop.cancel(session)
    await read(seen, loop, session)
    assert seen.said == []
    assert seen.end["outcome"] == {"type": "cancelled"}


# --- interrupts -----------------------------------------------------------------------------------------------


@tool(effects="pure")
async def ask_name() -> str:
    """Ask for a name."""
    request_user_input(prompt="What is your name?")
    return ""


@tool(effects="pure")
async def ask_size() -> str:
    """Ask for a size."""
    request_user_input(kind="choice", prompt="Which size?", options=["s", "l"])
    return ""


async def test_parked_calls_are_interrupts_and_their_answers_continue_the_send(stage: Any) -> None:
    loop = stage.loop(calls(call("ask_name"), call("ask_size")), say("Hello Ada, a large one."), tools=[ask_name, ask_size])
    session = await loop.new_session()
    first = await read(Interface(), loop, session)
    outcome = first.end["outcome"]
    assert outcome["type"] == "interrupt"
    name, size = outcome["interrupts"]
    assert (name["message"], name["responseSchema"], name["reason"]) == ("What is your name?", {"type": "string"}, "input_required")
    assert size["responseSchema"] == {"enum": ["s", "l"]}
    assert set(first.arguments) == {name["toolCallId"], size["toolCallId"]}

    answers = [{"interruptId": each["id"], "status": "resolved", "payload": value} for each, value in ((name, "Ada"), (size, "l"))]
    second = run_input(None, "run-2", resume=answers)
    RunAgentInput.model_validate(second)
    seen = await read(Interface(), loop, session, second)
    assert seen.said == ["Hello Ada, a large one."]
    assert seen.results == {name["toolCallId"]: "Ada", size["toolCallId"]: "l"}
    assert seen.end["outcome"] == {"type": "success"}
    again = await read(Interface(), loop, session, second)
    assert again.said == seen.said
    assert len(loop.llm.requests) == 2


@pytest.mark.parametrize(("payload", "ran"), [({"approved": True}, 1), ({"approved": False, "note": "not today"}, 0), (True, 1)])
async def test_an_approval_is_an_interrupt_that_a_yes_or_no_answers(stage: Any, payload: Any, ran: int) -> None:
    done: list[int] = []

    @tool(needs_approval=True)
    def pay(euros: int) -> str:
        """Pay."""
        done.append(euros)
        return "paid"

    loop = stage.loop(call("pay", euros=5), say("fine"), tools=[pay])
    session = await loop.new_session()
    first = await read(Interface(), loop, session)
    (asked,) = first.end["outcome"]["interrupts"]
    assert asked["reason"] == "tool_call"
    assert asked["metadata"]["arguments"] == {"euros": 5}
    answer = run_input(None, "run-2", resume=[{"interruptId": asked["id"], "status": "resolved", "payload": payload}])
    seen = await read(Interface(), loop, session, answer)
    assert len(done) == ran
    assert seen.said == ["fine"]
    assert "not today" in seen.results[asked["toolCallId"]] or ran


async def test_an_answer_to_nothing_is_an_error_of_the_run(stage: Any) -> None:
    loop = stage.loop(say("hello"))
    asked = run_input(None, resume=[{"interruptId": "input_0", "status": "resolved", "payload": 1}])
    seen = await read(Interface(), loop, await loop.new_session(), asked)
    assert seen.end["type"] == "RUN_ERROR"
    assert "input_0" in seen.end["message"]


# --- what goes wrong ----------------------------------------------------------------------------------------------


async def test_a_failing_run_ends_in_an_error_without_secrets(stage: Any) -> None:
    key = "sk" + "-proj-" + "Ab12" * 8
    loop = stage.loop(fail(ConnectionError(f"no route with {key}")))
    seen = await read(Interface(), loop, await loop.new_session())
    assert seen.end["type"] == "RUN_ERROR"
    assert key not in str(seen.end)
    assert seen.end["code"]


@pytest.mark.parametrize("id", ["", "7.", "x", "7\n", "9" * 40, "7.1:0:0", "7+~", "-1", "99"])
async def test_an_id_that_is_none_of_ours_is_refused(stage: Any, id: str) -> None:
    loop = stage.loop(say("hello"))
    session = await loop.new_session()
    if id == "":
        assert [frame async for frame in run_sse(loop, run_input(), session_id=session, last_event_id=id)]
        return
    with pytest.raises(ValueError, match=r"Last-Event-ID|no id of this stream"):
        [frame async for frame in run_sse(loop, run_input(), session_id=session, last_event_id=id)]


@pytest.mark.parametrize("asked", [
    {}, {"threadId": "t"}, {"threadId": 1, "runId": "r"}, [], "x", {"threadId": "t", "runId": "r", "messages": 5},
    {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": 5}]},
    {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": [{"type": "video"}]}]},
    {"threadId": "t", "runId": "r", "messages": [], "resume": [{"interruptId": "i"}]},
    *({"threadId": "t", "runId": run, "messages": [{"role": "user", "content": "hi"}]} for run in ("r" * 300, "a\0b", "\ud800")),
    {"threadId": "t", "runId": "r" * 180, "messages": [], "resume": [{"interruptId": "i" * 22, "status": "resolved"}]},
    *({"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": content}]} for content in (
        "", " \n", [], ["x"], [None], [{"type": "text", "text": " "}], [{"type": "image", "source": "x"}], [{"type": "image"}],
    )),
])  # fmt: skip
async def test_an_input_that_is_none_is_refused_before_anything_runs(stage: Any, asked: Any) -> None:
    loop = stage.loop(say("hello"))
    session = await loop.new_session()
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        [frame async for frame in run_sse(loop, asked, session_id=session)]
    assert loop.llm.requests == []


async def test_the_models_of_the_published_package_are_taken_too(stage: Any) -> None:
    loop = stage.loop(say("hello"))
    parts = [{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "data", "value": "AAAA", "mimeType": "image/png"}}]
    given = RunAgentInput.model_validate(run_input(messages=[{"id": "1", "role": "user", "content": parts}]))
    seen = await read(Interface(), loop, await loop.new_session(), given)
    assert seen.said == ["hello"]
    assert loop.llm.requests[0].messages[0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"


def test_a_frame_is_one_line_of_data_whatever_the_text() -> None:
    text = "a\nb\r\n\ndata: x\u2028y\u2029z\x85 ü漢\U0001f600"
    frame = sse({"delta": text}, "7.1")
    assert frame.startswith(b"id: 7.1\ndata: {")
    assert frame.count(b"\n") == 3
    # Many clients split lines where Unicode does, which is more often than the standard of server-sent events does.
    _, data, _ = frame.decode().splitlines()
    assert json.loads(data.removeprefix("data: ")) == {"delta": text}
    assert "ü漢\U0001f600" in data
    assert b"x?" in sse({"delta": "x\ud800"})


def test_events_of_sub_agents_are_left_to_their_own_stream() -> None:
    encoder = AgUiEncoder("t", "r")
    event = AgentEvent("message_appended", {"seq": 1, "role": "assistant", "content": "x", "tool_calls": None}, depth=1)
    assert encoder.encode(event) == []


async def test_the_summary_of_a_fold_is_not_shown(stage: Any) -> None:
    context = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1))
    summary = "they spoke of ships"

    def answer(request: Any) -> str:
        return f"<summary>{summary}</summary>" if request.reason == "fold" else "ships " * 200

    loop = stage.loop(llm=FunctionLLM(answer), config=AgentLoopConfig(context=context, context_tokens=2500, max_tokens=500))
    session = await loop.new_session()
    for n in range(6):
        seen = await read(Interface(), loop, session, run_input("ships " * 100, f"run-{n}"))
        assert summary not in str(seen.events)
        assert seen.end["outcome"] == {"type": "success"}
    assert any(event.type == "status_changed" and event.payload.get("phase") == "completed" for event in stage.heard)


class Halting:
    """A model that stops in the middle of its answer until it is told to go on."""

    model = "halting"

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()

    async def complete(self, request: Any, *, on_chunk_delta_text: Any = None, **more: Any) -> LLMResponse:
        on_chunk_delta_text("Once upon a time ")
        await self.may_go_on.wait()
        on_chunk_delta_text("there was a loop.")
        return LLMResponse(content_text="Once upon a time there was a loop.")


# acceptance: 183 (AG-UI, in the middle of a text)
async def test_a_text_that_was_half_shown_when_the_connection_broke_is_completed(stage: Any) -> None:
    model = Halting()
    loop = stage.loop(llm=model)
    session = await loop.new_session()
    seen = Interface()
    async with aclosing(run_sse(loop, run_input(), session_id=session)) as frames, asyncio.timeout(100):
        while not seen.messages or not all(seen.messages.values()):
            seen.read(await anext(frames))
    assert seen.said == ["Once upon a time "]
    model.may_go_on.set()
    await read(seen, loop, session)
    assert seen.said == ["Once upon a time there was a loop."]
    assert seen.kinds.count("TEXT_MESSAGE_START") == 1


class Watched(StatefulAgentLoop):
    """A loop that counts how many watch it."""

    watching = 0

    async def _noted(self, events: AsyncIterator[AgentEvent]) -> AsyncIterator[AgentEvent]:
        self.watching += 1
        try:
            async for event in events:
                yield event
        finally:
            self.watching -= 1

    def watch(self, *given: Any, **more: Any) -> Any:
        return self._noted(super().watch(*given, **more))


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_request_that_is_cut_off_at_any_step_leaves_nobody_watching(steps: int) -> None:
    async with Watched(llm=ScriptedLLM([hang()])) as loop:
        session = await loop.new_session()

        async def request() -> None:
            async with aclosing(run_sse(loop, run_input(), session_id=session)) as frames:
                async for _ in frames:
                    pass

        asked = asyncio.create_task(request())
        for _ in range(steps):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert loop.watching == 0


# --- what a run is, and what it is not --------------------------------------------------------------------------


async def test_a_browser_that_reconnects_to_a_run_that_failed_pays_nothing(stage: Any) -> None:
    loop = stage.loop(fail(ConnectionError("boom")), say("a second answer that nobody asked for"))
    session = await loop.new_session()
    first, late = await read(Interface(), loop, session), Interface(last_id="0", events=[{"type": "RUN_STARTED"}])
    assert first.end["type"] == "RUN_ERROR"
    assert (await read(late, loop, session)).end["type"] == "RUN_ERROR"
    for _ in range(3):
        assert [frame async for frame in run_sse(loop, run_input(), session_id=session, last_event_id=first.last_id)] == []
    assert len(loop.llm.requests) == 1


async def test_a_run_that_failed_goes_on_when_it_is_asked_for_again_from_its_beginning(stage: Any) -> None:
    loop = stage.loop(fail(ConnectionError("boom")), say("It works now."))
    session = await loop.new_session()
    assert (await read(Interface(), loop, session)).end["type"] == "RUN_ERROR"
    for _ in range(2):
        again = await read(Interface(), loop, session)
        assert (again.end["type"], again.said) == ("RUN_FINISHED", ["It works now."])
    assert len(loop.llm.requests) == 2


async def test_a_run_that_never_began_is_run_when_its_browser_reconnects_though_another_one_failed(stage: Any) -> None:
    loop = stage.loop(fail(ConnectionError("boom")), say("Here I am."))
    session = await loop.new_session()
    failed = await read(Interface(), loop, session)
    waited = Interface(last_id=failed.last_id, events=[{"type": "RUN_STARTED"}])
    assert (await read(waited, loop, session, run_input("And I?", "run-2"))).said == ["Here I am."]


async def test_a_run_that_begins_while_another_is_under_way_is_told_its_own_answer(stage: Any) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(request: Any) -> str:
        asked.set()
        await go.wait()
        return f"answer to {request.messages[-1]['content']}"

    loop = stage.loop(llm=FunctionLLM(answer))
    session = await loop.new_session()
    inputs = {name: run_input(name, f"run-{name}") for name in ("ONE", "TWO")}
    first = asyncio.create_task(read(Interface(), loop, session, inputs["ONE"]))
    await asked.wait()
    second = asyncio.create_task(read(Interface(), loop, session, inputs["TWO"]))
    await asyncio.sleep(0)
    go.set()
    assert [(await each).said for each in (first, second)] == [["answer to ONE"], ["answer to TWO"]]
    assert (await read(Interface(), loop, session, inputs["TWO"])).said == ["answer to TWO"]
    assert (await read(Interface(), loop, session, inputs["ONE"])).said == ["answer to ONE"]


async def test_whoever_leaves_at_the_first_frame_has_said_it(stage: Any) -> None:
    loop = stage.loop(say("hello"))
    session = await loop.new_session()
    await read(Interface(), loop, session, stop_after=1)
    assert (await read(Interface(), loop, session)).said == ["hello"]
    assert len(loop.llm.requests) == 1


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("approves", [True, False])
async def test_an_approval_that_a_sub_agent_waits_for_is_given_or_denied(stage: Any, levels: int, approves: bool) -> None:
    paid: list[int] = []

    @tool(needs_approval=True)
    def pay(euros: int) -> str:
        """Pay."""
        paid.append(euros)
        return "paid"

    registry = ToolRegistry([pay])
    register_spawn_agent(registry)

    def answer(request: Any) -> Any:
        if request.messages[-1]["role"] == "tool":
            return say("done")
        level = request.messages[0]["content"].count(">")
        return call("pay", euros=5) if level == levels else call("spawn_agent", task=">" * (level + 1))

    loop = stage.loop(llm=FunctionLLM(answer), tool_registry=registry)
    session = await loop.new_session()
    [asked] = (await read(Interface(), loop, session)).end["outcome"]["interrupts"]
    assert (asked["reason"], asked["metadata"]["kind"], asked["responseSchema"]["required"]) == ("tool_call", "approval", ["approved"])
    resume = [{"interruptId": asked["id"], "status": "resolved", "payload": {"approved": approves, "note": "so be it"}}]
    seen = await read(Interface(), loop, session, run_input(None, "run-2", resume=resume))
    assert (seen.end["type"], seen.said, paid) == ("RUN_FINISHED", ["done"], [5] * approves)


@pytest.mark.parametrize("more", [{"kind": "approval"}, {"kind": "text", "metadata": {"needs_approval": True}}])
async def test_a_question_of_a_tool_that_only_looks_like_an_approval_is_answered_as_any_other(stage: Any, more: dict[str, Any]) -> None:
    @tool(effects="pure")
    async def ask() -> str:
        """Ask."""
        request_user_input(prompt="May I?", **more)

    loop = stage.loop(call("ask"), say("thanks"), tools=[ask])
    session = await loop.new_session()
    [asked] = (await read(Interface(), loop, session)).end["outcome"]["interrupts"]
    resume = [{"interruptId": asked["id"], "status": "resolved", "payload": "yes"}]
    seen = await read(Interface(), loop, session, run_input(None, "run-2", resume=resume))
    assert (seen.said, seen.results[asked["toolCallId"]]) == (["thanks"], "yes")
