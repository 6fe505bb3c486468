"""What listeners hear of a run, in order: for each way that a run can go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    ContextPolicy,
    FallbackLLM,
    HookDirective,
    HumanInputRequired,
    LLMError,
    LLMRetryPolicy,
    LLMSummaryFold,
    SessionLeaseLost,
    tool,
)
from power_loop.contracts.store import Statement
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, hang, say

RETRY = AgentLoopConfig(retry_policy=LLMRetryPolicy())
ATTEMPT = ["llm_call_started", "stream_started"]
ANSWERED = ["stream_completed", "llm_call_completed"]


def add(a: int) -> str:
    """Add."""
    return f"sum {a}"


def shown(house: Any, *without: str) -> list[str]:
    """The types in order; a status by its kind, deltas without their number."""
    names = [f"{event.type}:{event.payload['kind']}" if event.type == "status_changed" else str(event.type) for event in house.heard]
    return [name for n, name in enumerate(names) if name not in without and not (name == "stream_delta" and names[n - 1] == name)]


REPLY = ["usage_updated", "status_changed:round_usage", "round_tools_present", "message_appended"]


async def test_a_plain_send(house: Any) -> None:
    await house.loop("two words").run("go")
    assert shown(house) == [
        *("session_started", "message_appended", "round_started", *ATTEMPT, "stream_delta", *ANSWERED, *REPLY),
        *("round_completed", "session_ended", "result"),
    ]


async def test_a_round_of_tools_side_by_side(house: Any) -> None:
    @tool(effects="pure", parallel=True)
    async def slow() -> str:
        """Be slow."""
        await house.until_told("tool_call_completed")
        return "slow"

    @tool(effects="pure", parallel=True)
    async def quick() -> str:
        """Be quick."""
        return "quick"

    await house.loop(calls(call("slow"), call("quick")), "done", tools=[slow, quick]).run("go")
    names = [event.payload["name"] for event in house.heard if event.type == "tool_call_completed"]
    assert names == ["quick", "slow"], "as they land"
    round_one = shown(house, "stream_delta")
    start, end = round_one.index("round_started"), round_one.index("round_completed")
    one_result = ["tool_call_completed", "message_appended"]
    assert round_one[start:end] == [
        *("round_started", *ATTEMPT, *ANSWERED, *REPLY, "tool_call_started", "tool_call_started", *one_result, *one_result)
    ]


async def test_a_failed_tool_is_told_as_failed_before_it_is_told_as_completed(house: Any) -> None:
    def breaks() -> str:
        """Break."""
        raise OSError("no disk")

    await house.loop(call("breaks"), "done", tools=[breaks]).run("go")
    told = [type for type in house.types() if type.startswith("tool_")]
    assert told == ["tool_call_started", "tool_call_failed", "tool_call_completed"]


# acceptance: 54
async def test_each_attempt_has_its_own_pair_and_its_own_id(house: Any) -> None:
    script = (fail(ConnectionError("a"), after="half "), fail(ConnectionError("b")), say("whole"))
    await house.loop(*script, config=RETRY).run("go")
    started = [told["call_id"] for told in house.told("llm_call_started")]
    assert started == ["r0.a1", "r0.a2", "r0.a3"] == [told["call_id"] for told in house.told("llm_call_completed")]
    assert [told["success"] for told in house.told("llm_call_completed")] == [False, False, True]
    assert started == [told["call_id"] for told in house.told("stream_started")]
    ends = [(told["call_id"], told["aborted"]) for told in house.told("stream_completed")]
    assert ends == list(zip(started, (True, True, False), strict=True))
    withdrawn = ["stream_completed", "llm_call_completed", "llm_retry_attempted"]
    run = shown(house, "usage_updated")
    assert run[run.index("llm_call_started") : run.index("status_changed:round_usage")] == [
        *(*ATTEMPT, "stream_delta", *withdrawn, *ATTEMPT, *withdrawn, *ATTEMPT, "stream_delta", *ANSWERED)
    ]
    assert house.types().count("usage_updated") == 3, "one per model call, the failed ones too"


# acceptance: 54 (over rounds)
async def test_ids_of_attempts_name_their_round(house: Any) -> None:
    await house.loop(call("add", a=1), fail(ConnectionError("a")), say("done"), tools=[add], config=RETRY).run("go")
    assert [told["call_id"] for told in house.told("llm_call_started")] == ["r0.a1", "r1.a1", "r1.a2"]


# acceptance: 54 (cut off)
@pytest.mark.parametrize("how", ["cancel", "task"])
async def test_a_call_that_was_cut_off_has_its_pair_too(house: Any, how: str) -> None:
    loop = house.loop(hang(after="half "))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_delta")
    if how == "cancel":
        await loop.cancel(session)
    else:
        sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    told = shown(house)
    ends = {
        "cancel": ["loop_cancelled", "round_completed", "session_ended", "result"],
        "task": ["round_completed", "loop_cancelled", "session_ended"],
    }
    assert told[told.index("stream_delta") + 1 :] == [*ANSWERED, "usage_updated", *ends[how]]


# acceptance: 54 (a call that degrades the send)
async def test_a_degraded_send(house: Any) -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=1))
    await house.loop(fail(ConnectionError("gone")), config=config).run("go")
    assert shown(house) == [
        *("session_started", "message_appended", "round_started", *ATTEMPT, *ANSWERED, "llm_degraded", "usage_updated", "message_appended"),
        *("round_completed", "session_ended", "result"),
    ]
    assert house.told("session_ended") == [{"reason": "degraded"}]


async def test_a_retry_is_told_before_its_wait_is_over(house: Any) -> None:
    waiting = asyncio.Event()

    async def wait(seconds: float) -> None:
        await waiting.wait()

    house.clock.sleep = wait
    loop = house.loop(fail(ConnectionError("a")), say("done"), config=RETRY)
    running = asyncio.create_task(loop.run("go"))
    await house.until_told("llm_retry_attempted")
    assert not running.done()
    waiting.set()
    assert (await running).status == "completed"


async def test_another_model_takes_over(house: Any) -> None:
    first = ScriptedLLM([fail(LLMError("busy", status_code=529), after="half ")], model="first")
    await house.loop(llm=FallbackLLM(first, ScriptedLLM(["whole"], model="second"))).run("go")
    assert shown(house, "usage_updated")[2:] == [
        *("round_started", *ATTEMPT, "stream_delta", "stream_completed", "llm_call_completed", "llm_fallback"),
        *(*ATTEMPT, "stream_delta", *ANSWERED, *REPLY[1:], "round_completed", "session_ended", "result"),
    ]
    assert house.told("llm_fallback") == [{"from_model": "first", "to_model": "second", "error_type": "LLMError"}]
    assert [told["aborted"] for told in house.told("stream_completed")] == [True, False]


async def test_another_service_takes_over_with_a_model_of_the_same_name(house: Any) -> None:
    first = ScriptedLLM([fail(LLMError("busy", status_code=529))], model="same")
    await house.loop(llm=FallbackLLM(first, ScriptedLLM(["whole"], model="same"))).run("go")
    assert house.told("llm_fallback") == [{"from_model": "same", "to_model": "same", "error_type": "LLMError"}]
    assert "llm_retry_attempted" not in house.types()


async def test_a_fold(house: Any) -> None:
    summary = ScriptedLLM(["<summary>they spoke of ships</summary>"])
    context = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, trigger_ratio=1.0, summary_llm=summary))
    loop = house.loop(*["aye"] * 6, config=AgentLoopConfig(context=context, context_tokens=2500, max_tokens=500))
    session = await loop.new_session()
    for _ in range(6):
        house.heard.clear()
        await loop.send("of ships, please " * 150, session)
        if summary.left == 0:
            break
    told = shown(house, "stream_delta")
    first = told.index("status_changed:auto_compact")
    call = ["llm_call_started", "llm_call_completed", "usage_updated"]
    assert told[first : told.index("round_started")] == ["status_changed:auto_compact", *call, "status_changed:auto_compact"]
    phases = [event.payload for event in house.heard if event.payload.get("kind") == "auto_compact"]
    assert [phase["phase"] for phase in phases] == ["started", "completed"]
    assert phases[1]["after_tokens"] < phases[1]["before_tokens"]
    assert [told["purpose"] for told in house.told("usage_updated")] == ["fold", "round"]


async def test_a_send_that_used_its_rounds_up(house: Any) -> None:
    loop = house.loop(call("add", a=1), say("what was done"), tools=[add], config=AgentLoopConfig(max_rounds=1))
    await loop.run("go")
    told = shown(house, "stream_delta")
    assert told[told.index("round_completed") :] == [
        *("round_completed", "status_changed:hit_round_limit", *ATTEMPT, *ANSWERED, "usage_updated", "message_appended"),
        *("session_ended", "result"),
    ]
    assert [told["purpose"] for told in house.told("usage_updated")] == ["round", "limit_summary"]


# --- every run is begun once and ended once ------------------------------------------------------------------


def starts_and_ends(house: Any) -> list[tuple[str, str, int]]:
    return [
        (str(event.type), event.payload.get("reason", ""), event.send_index)
        for event in house.heard
        if event.type in ("session_started", "session_ended")
    ]


def rounds_are_paired(house: Any) -> bool:
    rounds = [type for type in house.types() if type in ("round_started", "round_completed")]
    return rounds == ["round_started", "round_completed"] * (len(rounds) // 2)


# acceptance: 59 (it fails)
async def test_a_run_that_fails_is_ended_and_its_round_too(house: Any) -> None:
    with pytest.raises(LLMError):
        await house.loop(fail(ConnectionError("gone"))).run("go")
    assert starts_and_ends(house) == [("session_started", "", 1), ("session_ended", "error", 1)]
    assert rounds_are_paired(house), house.types()


# acceptance: 59 (a handler raises)
@pytest.mark.parametrize(
    "point", ["message.append", "session.start", "round.start", "llm.before", "tool.before", "round.end", "complete.decide", "session.end"]
)
async def test_a_run_that_a_handler_ends_is_ended_once(house: Any, point: str) -> None:
    def raises(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await house.loop(call("add", a=1), "done", tools=[add], on={point: raises}).run("go")
    assert [told[:2] for told in starts_and_ends(house)] == [("session_started", ""), ("session_ended", "error")]
    assert house.types()[-1] == "session_ended"
    assert "agent_error" in house.types()
    assert rounds_are_paired(house), house.types()


# acceptance: 59 (the task was cancelled, then somebody goes on)
@pytest.mark.parametrize("verb", ["send", "resume"])
async def test_a_run_whose_task_was_cancelled_is_not_ended_again_by_the_next(house: Any, verb: str) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await (loop.send("more", session) if verb == "send" else loop.resume(session))
    number = 2 if verb == "send" else 1
    assert starts_and_ends(house) == [
        *(("session_started", "", 1), ("session_ended", "cancelled", 1)),
        *(("session_started", "", number), ("session_ended", "completed", number)),
    ]
    assert rounds_are_paired(house)


# acceptance: 59 (crash takeover)
@pytest.mark.parametrize("verb", ["send", "resume", "heal"])
async def test_whoever_takes_a_dead_run_over_tells_its_end(house: Any, verb: str) -> None:
    dead = house.loop(call("stuck") if verb == "heal" else hang(), tools=[stuck])
    session = await dead.new_session()
    sending = asyncio.create_task(dead.send("go", session))
    await house.until_told("tool_call_started" if verb == "heal" else "stream_started")
    await house.database.write([kill(session)])
    house.heard.clear()
    alive = house.loop("fine", tools=[stuck])
    await (alive.resume(session) if verb == "resume" else alive.send("more", session, heal_pending=verb == "heal"))
    number = 1 if verb == "resume" else 2
    assert starts_and_ends(house) == [
        *(("session_ended", "interrupted", 1), ("session_started", "", number), ("session_ended", "completed", number)),
    ]
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


# acceptance: 59 (the lease was lost), 142
async def test_a_run_that_lost_its_session_is_ended_and_writes_nothing_more(house: Any) -> None:
    gate = asyncio.Event()

    async def think(_: Any) -> str:
        await gate.wait()
        return "too late"

    loop = house.loop(llm=FunctionLLM(think))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    await house.database.write([kill(session)])
    gate.set()
    with pytest.raises(SessionLeaseLost):
        await sending
    assert starts_and_ends(house) == [("session_started", "", 1), ("session_ended", "error", 1)]
    assert house.types()[-1] == "session_ended"
    assert await house.kinds(session) == ["user_said"]
    assert rounds_are_paired(house)


@tool(effects="pure")
async def stuck() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return "never"


def kill(session: str) -> Any:
    """As if the holder died and its lease ran out: the next one's epoch is above its own."""
    return Statement("UPDATE pl_sessions SET epoch = epoch + 1, holder = NULL, lease_until = 0 WHERE session_id = ?", (session,), 1)


# acceptance: 59 (waiting for somebody)
async def test_a_run_that_rests_says_what_it_waits_for(house: Any) -> None:
    def ask() -> str:
        """Ask."""
        raise HumanInputRequired("which one?")

    loop = house.loop(call("ask"), "fine", tools=[ask])
    session = await loop.new_session()
    await loop.send("go", session)
    pending = await loop.get_pending(session)
    assert pending is not None
    await loop.submit_input(session, pending["pending_interactions"][0]["interaction_id"], "this one")
    assert starts_and_ends(house) == [
        *(("session_started", "", 1), ("session_ended", "waiting_for_input", 1)),
        *(("session_started", "", 1), ("session_ended", "completed", 1)),
    ]


async def test_session_ended_follows_every_other_event_but_the_result(house: Any) -> None:
    def ends(ctx: Any) -> HookDirective:
        return HookDirective.CANCEL

    await house.loop(call("add", a=1), tools=[add], on={"session.start": ends}).run("go")
    assert house.types() == ["session_started", "message_appended", "loop_cancelled", "session_ended", "result"]
