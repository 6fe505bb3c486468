"""What folds cost is reserved before, settled after, and bounded like every other call, with a summariser of its own too."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMRetryPolicy, LLMSummaryFold, Price, StatefulAgentLoop, UsageLimits, open_store
from power_loop.testing import FunctionLLM, say

WORD = "tell me about ships " * 60
PRICES = {"talker": Price(input=1.0, output=1.0), "cheap": Price(input=100.0, output=100.0)}


class Talk:
    """A loop whose history is folded inside of a send, by a model of its own."""

    def __init__(self, store: Any, **settings: Any) -> None:
        self.reserved: list[list[tuple[Any, ...]]] = []
        self.folds = 0
        self.failing = 0
        self.store = store
        self.summariser = FunctionLLM(self.summary, model="cheap")
        strategy = LLMSummaryFold(keep_last_sends=1, trigger_ratio=1.0, summary_max_tokens=70, summary_llm=self.summariser)
        self.model = FunctionLLM(lambda _: say("I see.", prompt_tokens=500, completion_tokens=5), model="talker")
        config = AgentLoopConfig(context_tokens=2000, max_tokens=100, fold_strategy=strategy, prices=PRICES, **settings)
        self.loop = StatefulAgentLoop(llm=self.model, store=store, config=config)

    async def summary(self, request: Any) -> Any:
        columns = "call_key, input_tokens, output_tokens, cost"
        rows = await self.store.database.read(f"SELECT {columns} FROM pl_reservations ORDER BY call_key", ())
        self.reserved.append(rows)
        self.folds += 1
        if self.folds <= self.failing:
            raise ConnectionError("the summariser is away")
        return say("<summary>ships</summary>", prompt_tokens=400, completion_tokens=10)

    async def until_folded(self, **send: Any) -> Any:
        session = await self.loop.new_session()
        for _ in range(8):
            result = await self.loop.send(WORD * 2, session, **send)
            if self.folds or result.status != "completed":
                return session, result
        raise AssertionError("nothing was folded")


@pytest.fixture
async def store() -> Any:
    opened = await open_store()
    yield opened
    await opened.close()


# acceptance: 144 (folds reserve)
async def test_a_fold_in_a_send_reserves_what_its_own_request_and_model_may_cost(store: Any) -> None:
    talk = Talk(store)
    session, result = await talk.until_folded(limits=UsageLimits(requests=50, cost=5.0))
    assert result.status == "completed"
    [(key, tokens_in, tokens_out, cost)] = talk.reserved[0]
    assert (key.endswith("fold"), tokens_out) == (True, 70)
    assert cost == pytest.approx((tokens_in + tokens_out) * 100 / 1e6)
    assert await store.database.read("SELECT COUNT(*) FROM pl_reservations", ()) == [(0,)]
    [fold] = [row for row in await store.list_usage(session) if row.purpose == "fold"]
    assert (fold.model, fold.cost) == ("cheap", pytest.approx(410 * 100 / 1e6))
    await talk.loop.aclose()


# acceptance: 144 (attempts of a fold)
async def test_each_attempt_of_a_fold_is_charged_and_reserved_for(store: Any) -> None:
    talk = Talk(store, retry_policy=LLMRetryPolicy(backoff_initial=0, max_attempts=3))
    talk.failing = 1
    session, _ = await talk.until_folded(limits=UsageLimits(requests=50))
    assert [len(rows) for rows in talk.reserved] == [1, 1]
    assert talk.reserved[0][0][0] != talk.reserved[1][0][0]
    folds = [row for row in await store.list_usage(session) if row.purpose == "fold"]
    assert len(folds) == 2
    await talk.loop.aclose()


async def test_an_attempt_that_no_limit_has_room_for_is_not_made(store: Any) -> None:
    talk = Talk(store, retry_policy=LLMRetryPolicy(backoff_initial=0, max_attempts=3))
    talk.failing = 9
    _, result = await talk.until_folded(limits=UsageLimits(requests=1))
    assert (result.status, talk.folds) == ("budget_exceeded", 1)
    await talk.loop.aclose()


async def test_a_cost_limit_needs_a_price_for_the_summariser_too(store: Any) -> None:
    talk = Talk(store)
    talk.loop.config.prices = {"talker": Price(input=1.0, output=1.0)}
    session = await talk.loop.new_session()
    with pytest.raises(ValueError, match="a cost limit needs a price for the model 'cheap'"):
        await talk.loop.send("hi", session, limits=UsageLimits(cost=1.0))
    assert await talk.loop.get_messages(session) == []
    await talk.loop.aclose()


async def test_a_fold_after_a_send_that_is_near_its_limit_is_made_only_while_there_is_room(store: Any) -> None:
    def answer(request: Any) -> Any:
        return say("<summary>ships</summary>") if request.reason == "fold" else say("I see. " * 40)

    for requests, folded in ((1, False), (2, True)):
        strategy = LLMSummaryFold(keep_last_sends=1, trigger_ratio=0.5)
        model = FunctionLLM(answer)
        config = AgentLoopConfig(context_tokens=2000, max_tokens=100, fold_strategy=strategy)
        loop = StatefulAgentLoop(llm=model, store=store, config=config)
        session = await loop.new_session()
        for _ in range(4):
            await loop.send(WORD, session, limits=UsageLimits(requests=requests))
        await loop.aclose()
        assert any(request.reason == "fold" for request in model.requests) is folded
