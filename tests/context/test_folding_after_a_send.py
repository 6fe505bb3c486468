"""Folding after a send: computed once the result is handed out, heard first by whoever drives next."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentHooks, AgentLoopConfig, CancellationToken, LLMRetryPolicy, LLMSummaryFold, StatefulAgentLoop
from power_loop.contracts.errors import LLMError
from power_loop.contracts.records import ContextFolded, FoldSkipped
from power_loop.contracts.store import Conflict
from power_loop.testing import FunctionLLM, ScriptedLLM, fail, say

WORDS = "word " * 400  # 500 tokens
SMALL = {"context_tokens": 4000, "fold_strategy": LLMSummaryFold(keep_last_sends=1)}


async def talked(loop: Any, session: str, sends: int) -> None:
    for n in range(sends):
        assert (await loop.send(f"question {n} {WORDS}", session)).status == "completed"


async def folded(desk: Any, **config: Any) -> tuple[Any, str]:
    """A loop and its session with as many sends as make a fold due; nobody has heard of it yet."""
    desk.answers(lambda _: say(WORDS))
    loop = desk.loop(**{**SMALL, **config})
    session = await loop.new_session()
    await talked(loop, session, 3)
    return loop, session


# acceptance: 170 (a slow summariser)
async def test_a_slow_summariser_does_not_delay_the_result_of_the_send_before_it(desk: Any) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(_: Any) -> Any:
        started.set()
        await go_on.wait()
        return say("<summary>late</summary>")

    desk.summary = slow
    loop, session = await folded(desk)
    assert not started.is_set(), "the result comes before the summariser is even asked"
    following = asyncio.create_task(loop.send("and now?", session))
    await asyncio.wait_for(started.wait(), 60)
    await asyncio.sleep(0)
    assert not following.done()
    go_on.set()
    assert (await following).status == "completed"
    note = desk.requests[-1].messages[0]
    assert note["name"] == "compact_note", "the next send of this process waited for it"
    assert note["content"].endswith("late")


async def test_the_next_send_waits_no_longer_than_a_fold_may_take(desk: Any) -> None:
    async def for_ever(_: Any) -> Any:
        await asyncio.Event().wait()

    desk.summary = for_ever
    loop, session = await folded(desk, fold_timeout_s=0.05)
    async with asyncio.timeout(30):
        assert (await loop.send("and now?", session)).status == "completed"
    assert "name" not in desk.requests[-1].messages[0]


async def test_a_send_that_is_cancelled_while_it_waits_for_a_fold_does_not_wait_on(desk: Any) -> None:
    async def for_ever(_: Any) -> Any:
        await asyncio.Event().wait()

    desk.summary = for_ever
    loop, session = await folded(desk, fold_timeout_s=60)
    token = CancellationToken()
    following = asyncio.create_task(loop.send("and now?", session, stop_event=token))
    await asyncio.sleep(0.02)
    token.cancel("enough")
    assert (await asyncio.wait_for(following, 30)).status == "cancelled"
    other = asyncio.create_task(loop.send("and now?", session))
    await asyncio.sleep(0.02)
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(other, 30)
    loop._verbs._driver.folds._own.copy().pop().cancel()


async def test_a_fold_is_posted_without_the_lease_and_heard_by_another_loop(desk: Any) -> None:
    loop, session = await folded(desk)
    await loop.aclose()
    items = await desk.store.inbox(session)
    assert [item.key for item in items][-1].startswith("fold:")
    assert isinstance(items[-1].record, ContextFolded)
    assert (await desk.store.look(session)).holder is None
    await desk.loop(**SMALL).send("and now?", session)
    assert desk.requests[-1].messages[0]["name"] == "compact_note"
    assert await desk.store.inbox(session) == []
    assert [row.purpose for row in await desk.store.list_usage(session)].count("fold") == 1


async def test_closing_the_loop_waits_for_its_folds_and_ends_those_that_hang(desk: Any) -> None:
    async def for_ever(_: Any) -> Any:
        await asyncio.Event().wait()

    desk.summary = for_ever
    loop, session = await folded(desk)
    await loop.aclose(drain_timeout_s=0.05)
    assert [item.record.error for item in await desk.store.inbox(session)] == ["cancelled"], "what was paid is charged"


async def test_a_fold_ends_with_its_session_and_a_new_one_of_its_id_does_not_wait_for_it(desk: Any) -> None:
    begun = asyncio.Event()

    async def for_ever(_: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    desk.summary = for_ever
    loop, session = await folded(desk)
    await begun.wait()
    await desk.loop().close_session(session)
    await loop.new_session(session_id=session)
    assert (await loop.send("a new one", session)).status == "completed"
    assert [message["content"] for message in desk.requests[-1].messages] == ["a new one"]
    assert await desk.store.inbox(session) == []


async def test_a_fold_that_another_process_made_of_a_deleted_session_is_not_posted_to_a_new_one_of_its_id(desk: Any) -> None:
    loop = desk.loop()
    session = await loop.new_session()
    await loop.send("mine", session)
    head = await desk.store.look(session)
    late = {"key": "fold", "mode": "aside", "last": (head.head, head.epoch)}
    assert await desk.store.post(session, ContextFolded(1, "of mine", 1), **late)
    await loop.close_session(session)
    await loop.new_session(session_id=session)
    await loop.send("anew", session)
    with pytest.raises(Conflict):
        await desk.store.post(session, ContextFolded(1, "of mine", 1), **late)
    assert await desk.store.inbox(session) == []


async def test_a_fold_of_somebody_else_that_covers_more_makes_a_late_one_void(desk: Any) -> None:
    loop, session = await folded(desk)
    await loop.aclose()
    through = (await desk.store.inbox(session))[-1].record.through
    await desk.store.post(session, ContextFolded(through - 1, "less", 1), key="other", mode="aside")
    await desk.loop(**SMALL).send("and now?", session)
    assert desk.requests[-1].messages[0]["content"].endswith("in short")
    assert (await desk.store.look(session)).fold_through == through


async def test_a_worker_is_not_woken_by_a_fold_that_waits(desk: Any) -> None:
    loop, session = await folded(desk)
    await loop.aclose()
    _, claimed = await desk.store.claim("w", limit=5)
    assert session not in [each.session_id for each in claimed]


# --- when it fails -----------------------------------------------------------------------------------


# acceptance: 92 (a failing fold)
async def test_a_failing_fold_leaves_history_usable_and_is_not_tried_at_every_send(desk: Any) -> None:
    desk.summary = lambda _: fail(LLMError("overloaded"))
    heard: list[Any] = []
    loop, session = await folded(desk)
    loop.event_bus.subscribe("status_changed", lambda event: heard.append(event.payload))
    desk.answers(lambda _: say("short"))
    for _ in range(4):
        assert (await loop.send("hi", session)).status == "completed"
    assert len(desk.folds) == 1, "no retry before a tenth of the budget was added"
    assert [told["kind"] for told in heard].count("compaction_failed") == 1
    assert "name" not in desk.requests[-1].messages[0]
    kinds = [row.cells.kind for row in await desk.store.rows(session, after=0)]
    assert kinds.count("fold_skipped") == 1


async def test_a_new_loop_does_not_retry_either(desk: Any) -> None:
    desk.summary = lambda _: fail(LLMError("overloaded"))
    loop, session = await folded(desk)
    await loop.aclose()
    assert isinstance((await desk.store.inbox(session))[-1].record, FoldSkipped)
    for _ in range(2):
        loop = desk.loop(**SMALL)
        desk.answers(lambda _: say("ok"))
        await loop.send("hi", session)
        await loop.aclose()
    assert len(desk.folds) == 1


async def test_a_request_that_does_not_fit_is_not_folded_at_every_send_either_when_that_fails(desk: Any) -> None:
    desk.summary = lambda _: fail(LLMError("overloaded"))
    loop, session = await folded(desk, context_tokens=3000)
    desk.answers(lambda _: say("short"))
    for _ in range(8):
        assert (await loop.send("hi " * 30, session)).status == "completed"
    assert len(desk.requests[-1].messages) > 20, "beyond the budget, as it was"
    assert 1 <= len(desk.folds) <= 3


@pytest.mark.parametrize("reply", ["", "   ", "<summary></summary>"])
async def test_an_empty_summary_is_a_failed_one(desk: Any, reply: str) -> None:
    desk.summary = reply
    loop, session = await folded(desk)
    await loop.send("hi", session)
    assert len(desk.folds) == 1
    assert "name" not in desk.requests[-1].messages[0]


# acceptance: 170 (retries and usage)
async def test_a_fold_is_retried_under_the_policy_and_every_attempt_is_charged_and_told(desk: Any) -> None:
    replies = [fail(LLMError("overloaded")), say("<summary>at last</summary>", prompt_tokens=70, completion_tokens=7)]
    desk.summary = lambda _: replies.pop(0)
    heard: list[Any] = []
    loop, session = await folded(desk, retry_policy=LLMRetryPolicy(max_attempts=3, backoff_initial=0.001))
    loop.event_bus.subscribe(None, heard.append)
    await loop.send("hi", session)
    types = [event.type for event in heard]
    assert "llm_retry_attempted" in types
    usage = next(event.payload for event in heard if event.type == "usage_updated" and event.payload["purpose"] == "fold")
    assert usage["usage"]["calls"] == 2
    assert usage["usage"]["prompt_tokens"] > 70
    fold = types[types.index("status_changed") : types.index("llm_retry_attempted")]
    assert not any(each.startswith("stream_") for each in fold), "the text of a summary is not the answer"
    assert desk.requests[-1].messages[0]["content"].endswith("at last")


# acceptance: 170 (its own model)
async def test_the_strategys_own_model_makes_the_summary(desk: Any) -> None:
    own = ScriptedLLM([say("<summary>mine</summary>", prompt_tokens=5)], model="small")
    loop, session = await folded(desk, fold_strategy=LLMSummaryFold(keep_last_sends=1, summary_llm=own))
    await loop.send("hi", session)
    assert desk.folds == []
    assert desk.requests[-1].messages[0]["content"].endswith("mine")
    assert own.requests[0].temperature == 0.0
    assert own.requests[0].max_tokens == 5000
    usage = [row for row in await desk.store.list_usage(session) if row.purpose == "fold"]
    assert [(row.model, row.prompt_tokens) for row in usage] == [("small", 5)]


async def test_handlers_see_a_fold_before_and_after_and_may_skip_it(desk: Any) -> None:
    hooks, seen = AgentHooks(), list[Any]()
    hooks.register("compact.before", lambda ctx: seen.append(("before", len(ctx.messages))))
    hooks.register("compact.after", lambda ctx: seen.append(("after", ctx.messages_before_count, ctx.messages_after_count)))
    loop, session = await folded(desk, hooks=hooks)
    await loop.aclose()
    assert seen == [("before", 6), ("after", 6, 3)]
    hooks.clear()
    hooks.register("compact.before", lambda ctx: "skip")
    desk.folds.clear()
    loop, session = await folded(desk, hooks=hooks)
    await loop.send("hi", session)
    assert desk.folds == []


# --- how often ---------------------------------------------------------------------------------------


# acceptance: 169 (many sends)
async def test_a_session_over_its_budget_pays_for_a_summary_now_and_then(desk: Any) -> None:
    part = "x" * 800  # with the answer about 2 % of the budget
    desk.answers(lambda _: say("y" * 790))
    desk.summary = "<summary>" + "s" * 400 + "</summary>"
    loop = desk.loop(context_tokens=20_000)
    session = await loop.new_session()
    for _ in range(60):
        await loop.send(part, session)
    desk.folds.clear()
    for _ in range(100):
        await loop.send(part, session)
    await loop.aclose()
    assert 1 <= len(desk.folds) < 15


def test_a_fold_whose_event_loop_was_closed_is_waited_for_by_nobody(tmp_path: Path) -> None:
    async def for_ever(request: Any) -> Any:
        await (asyncio.Event().wait() if request.reason == "fold" else asyncio.sleep(0))
        return say(WORDS)

    loop = StatefulAgentLoop(llm=FunctionLLM(for_ever), dsn=str(tmp_path / "app.db"), config=AgentLoopConfig(**SMALL))
    session = on_a_loop_of_its_own(loop.new_session())
    on_a_loop_of_its_own(talked(loop, session, 3))
    started = time.monotonic()
    on_a_loop_of_its_own(talked(loop, session, 1))
    on_a_loop_of_its_own(loop.aclose(drain_timeout_s=0.1))
    assert time.monotonic() - started < 60


def on_a_loop_of_its_own(work: Any) -> Any:
    """What is left when ``work`` is done is neither awaited nor cancelled."""
    own = asyncio.new_event_loop()
    try:
        return own.run_until_complete(work)
    finally:
        own.close()
