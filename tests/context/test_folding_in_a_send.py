"""Folding inside one long send, and what is done where a request does not fit even then."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import LLMRetryPolicy, LLMSummaryFold, NeverFold, estimate_tokens, tool
from power_loop.context.pairing import check_pairs
from power_loop.contracts.errors import ContextOverflow, LLMError
from power_loop.testing import call, fail, say

ONE_TRY = LLMRetryPolicy(max_attempts=1)


@tool(effects="pure")
def read(part: int) -> str:
    """Read a part."""
    return f"part {part} " + "x" * 40_000


def reading(rounds: int) -> Any:
    """A model that reads part after part, then answers."""
    asked = iter(range(1, rounds + 1))
    return lambda _: call("read", part=part) if (part := next(asked, None)) is not None else say("done")


# acceptance: 169 (a single send)
async def test_one_long_send_folds_its_older_rounds_and_stays_under_its_budget(desk: Any) -> None:
    desk.answers(reading(20))
    loop = desk.loop(tools=[read], context_tokens=50_000)
    result = await loop.run("read all twenty parts")
    assert (result.status, result.rounds, result.final_text) == ("completed", 21, "done")
    assert all(estimate_tokens(request.messages) <= 50_000 for request in desk.requests)
    assert 3 <= len(desk.folds) <= 10, "now and then, not every round"
    for request in desk.requests:
        check_pairs(request.messages)
        assert any(message["content"] == "read all twenty parts" for message in request.messages), "the request itself stays"
    last = desk.requests[-1].messages
    assert last[0]["name"] == "compact_note"
    assert "rounds of send 1" in last[0]["content"]
    assert [message["role"] for message in last[1:6]] == ["user", "assistant", "tool", "assistant", "tool"], "two rounds stay at least"


# acceptance: 99 (a fold inside a send)
async def test_what_was_folded_inside_a_send_is_stored_as_it_was(desk: Any) -> None:
    desk.answers(reading(9))
    loop = desk.loop(tools=[read], context_tokens=40_000)
    result = await loop.run("go")
    rows = await desk.store.load_all_messages(result.session_id)
    texts = [row.content for row in rows if row.role == "tool"]
    assert texts == [f"part {n} " + "x" * 40_000 for n in range(1, 10)]


async def test_a_cold_loop_goes_on_from_a_fold_inside_a_send_as_a_warm_one(desk: Any) -> None:
    desk.answers(reading(9))
    warm = desk.loop(tools=[read], context_tokens=40_000)
    session = (await warm.run("go")).session_id
    desk.requests.clear()
    await desk.loop(tools=[read], context_tokens=40_000).send("and now?", session)
    desk.answers(lambda _: fail(LLMError("away")))
    with pytest.raises(LLMError):
        await warm.send("and now?", session)
    cold, again = desk.requests
    assert again.messages[: len(cold.messages)] == cold.messages
    assert cold.messages[1]["content"] == "go"


async def test_results_that_cannot_be_folded_are_shown_cut_and_stay_whole_in_the_store(desk: Any) -> None:
    desk.answers(reading(4))
    loop = desk.loop(tools=[read], context_tokens=16_000)
    result = await loop.run("go")
    assert result.status == "completed"
    assert all(estimate_tokens(request.messages) <= 16_000 for request in desk.requests)
    shown = [message["content"] for message in desk.requests[-1].messages if message["role"] == "tool"]
    assert any("not shown any more" in text and len(text) < 700 for text in shown)
    rows = await desk.store.load_all_messages(result.session_id)
    assert all(len(row.content) > 40_000 for row in rows if row.role == "tool")


async def test_the_next_rounds_keep_the_bytes_of_results_that_are_shown_cut(desk: Any) -> None:
    desk.answers(reading(3))
    loop = desk.loop(tools=[read], context_tokens=25_000, fold_strategy=LLMSummaryFold(keep_last_sends=1))
    session = (await loop.run("go")).session_id
    desk.requests.clear()
    for word in ("one", "two"):
        await loop.send(word, session)
    first, second = desk.requests
    assert second.messages[: len(first.messages)] == first.messages


async def test_what_cannot_be_made_to_fit_ends_the_send_as_degraded_before_a_model_is_paid(desk: Any) -> None:
    loop = desk.loop(context_tokens=1000)
    heard: list[Any] = []
    loop.event_bus.subscribe("status_changed", lambda event: heard.append(event.payload))
    result = await loop.run("word " * 2000)
    assert (result.status, desk.requests) == ("degraded", [])
    assert "context_overflow" in result.final_text
    assert result.error is not None
    assert result.error["code"] == "compaction.failed"
    assert result.error["type"] == "CompactionFailed"
    assert any(told["kind"] == "compaction_failed" for told in heard)


async def test_a_fold_that_fails_fails_no_send(desk: Any) -> None:
    desk.summary = lambda _: fail(LLMError("overloaded"))
    loop = desk.loop(context_tokens=1000, fold_strategy=LLMSummaryFold(keep_last_sends=1, trigger_ratio=1.0))
    session = await loop.new_session()
    assert [(await loop.send(f"{n} " + "word " * 400, session)).status for n in range(5)] == ["completed"] * 5
    assert desk.folds
    assert len(desk.requests[-1].messages) == 9, "history is as it was"


async def test_where_nobody_said_how_much_fits_the_provider_decides(desk: Any) -> None:
    result = await desk.loop().run("word " * 80_000)
    assert (result.status, len(desk.requests)) == ("completed", 1)


async def test_never_to_fold_means_that_nothing_is_cut_either(desk: Any) -> None:
    result = await desk.loop(context_tokens=1000, fold_strategy=NeverFold()).run("word " * 2000)
    assert (result.status, desk.requests[0].messages[0]["content"]) == ("completed", "word " * 2000)


# --- the provider says that it is too long -----------------------------------------------------------


def overflowing(*, times: int) -> Any:
    """Refuses its fourth request, and as many after it."""
    asked = iter(range(100))
    return lambda _: fail(ContextOverflow("too long")) if 3 <= next(asked) < 3 + times else say("word " * 400)


@pytest.mark.parametrize("policy", [ONE_TRY, None])
async def test_a_request_over_the_providers_limit_folds_and_is_asked_once_more(desk: Any, policy: LLMRetryPolicy | None) -> None:
    desk.answers(overflowing(times=1))
    loop = desk.loop(retry_policy=policy, fold_strategy=LLMSummaryFold(keep_last_sends=1))
    session = await loop.new_session()
    results = [await loop.send(f"question {n} " + "word " * 400, session) for n in range(4)]
    assert [result.status for result in results] == ["completed"] * 4
    assert len(desk.folds) == 1
    refused, again = desk.requests[3:]
    assert len(again.messages) < len(refused.messages)
    assert again.messages[0]["name"] == "compact_note"
    assert again.messages[-1] == refused.messages[-1]
    assert results[-1].usage["calls"] == 3, "the refused call and the fold are charged"


async def test_one_that_is_refused_again_is_degraded_with_a_policy_and_raised_without(desk: Any) -> None:
    for policy in (ONE_TRY, None):
        desk.answers(overflowing(times=50))
        loop = desk.loop(retry_policy=policy, fold_strategy=LLMSummaryFold(keep_last_sends=1))
        session = await loop.new_session()
        for n in range(3):
            await loop.send(f"question {n} " + "word " * 400, session)
        desk.requests.clear()
        if policy is None:
            with pytest.raises(ContextOverflow):
                await loop.send("and this?", session)
        else:
            result = await loop.send("and this?", session)
            assert result.status == "degraded"
            assert "context_overflow" in result.final_text
        assert len(desk.requests) == 2, "one more attempt, no more"


async def test_a_refused_request_with_nothing_to_fold_has_its_results_cut(desk: Any) -> None:
    answers = iter([call("read", part=1), fail(ContextOverflow("too long")), say("fine")])
    desk.answers(lambda _: next(answers))
    result = await desk.loop(tools=[read]).run("go")
    assert result.status == "completed"
    _, refused, again = desk.requests
    assert len(refused.messages[2]["content"]) > 40_000
    assert len(again.messages[2]["content"]) < 700


async def test_the_word_that_a_fold_inside_its_send_left_is_neither_folded_nor_pruned(desk: Any) -> None:
    desk.answers(reading(9))
    loop = desk.loop(tools=[read], context_tokens=40_000)
    session = (await loop.run("go")).session_id
    rows = await desk.store.load_all_messages(session)
    assert [row.state for row in rows[:3]] == ["active", "compacted_out", "compacted_out"]
    assert (await desk.store.load_active_messages(session))[0].content == "go"
    assert (await loop.get_messages(session))[0] == {"role": "user", "content": "go"}
    await loop.send("and now?", session)
    assert await desk.store.prune_compacted_messages(session) > 0
    desk.requests.clear()
    await desk.loop(tools=[read], context_tokens=40_000).send("still there?", session)
    assert desk.requests[0].messages[1]["content"] == "go"
