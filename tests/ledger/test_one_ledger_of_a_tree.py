"""A send and its sub-agents share one ledger: what any of them spends counts for all, and the sum is the parent's usage."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from families import fan_out

from power_loop import AgentLoopConfig, LLMError, LLMRetryPolicy, Price, ToolRun, UsageLimits
from power_loop.contracts.usage import CallUsage
from power_loop.testing import call, calls, check_invariants, fail, hang, say

TEN_AND_FIVE = {"prompt_tokens": 10, "completion_tokens": 5}


# acceptance: 28 (sub-agents)
async def test_usage_is_that_of_the_tree_and_usage_own_that_of_the_session(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a", "b"], **TEN_AND_FIVE), "a": say("A", prompt_tokens=100, completion_tokens=1)})
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.final_text) == ("completed", "ok")
    assert result.usage_own == {
        "prompt_tokens": 20, "completion_tokens": 10, "cache_read_tokens": 0, "reasoning_tokens": 0, "total_tokens": 30, "calls": 2,
    }  # fmt: skip
    assert (result.usage["prompt_tokens"], result.usage["completion_tokens"], result.usage["calls"]) == (130, 16, 4)
    again = await family.loop().resume(session)
    assert (again.usage, again.usage_own) == (result.usage, result.usage_own), "read again by another loop"


# acceptance: 28 (a send without sub-agents after one with)
async def test_the_next_send_counts_its_own_usage_only(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    await loop.send("go", session)
    result = await loop.send("more", session)
    assert result.usage == result.usage_own == {**result.usage_own, "calls": 1, "total_tokens": 15}


async def test_a_plain_send_after_one_with_sub_agents_asks_no_ledger(small_family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, store = small_family.answering({"go": fan_out(["a"])}), await small_family.store()
    session = await loop.new_session()
    asked: list[str] = []

    async def counted(ledger_id: str) -> CallUsage:
        asked.append(ledger_id)
        return await below(ledger_id)

    below = store.charged_below
    monkeypatch.setattr(store, "charged_below", counted)
    await loop.send("go", session)
    await loop.send("more", session)
    assert asked == [f"{session}/1"]


# acceptance: 28 (a grandchild)
async def test_every_level_counts_what_is_below_it(family: Any) -> None:
    deeper = calls(call("delegate", task="leaf", name="g"), **TEN_AND_FIVE)
    loop = family.answering({"go": fan_out(["deeper"], **TEN_AND_FIVE), "deeper": deeper})
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.usage["calls"], result.usage_own["calls"]) == (5, 2)
    child = await family.loop().resume(f"{session}.0")
    assert (child.usage["calls"], child.usage_own["calls"]) == (3, 2)


async def test_sub_agents_whose_words_are_shaped_open_the_ledger_of_their_parent_together(
    small_family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, store = small_family.answering({"go": fan_out(["a", "b"], **TEN_AND_FIVE)}), await small_family.store()
    loop.hooks.register("message.append", lambda ctx: None)
    look, both_looked = store.ledgers, asyncio.Barrier(2)

    async def side_by_side(ids: Any, *, asking: str | None = None) -> Any:
        found = await look(ids, asking=asking)
        if asking is not None and not found:
            await both_looked.wait()
        return found

    session = await loop.new_session()
    monkeypatch.setattr(store, "ledgers", side_by_side)
    result = await asyncio.wait_for(loop.send("go", session), 10)
    assert (result.status, result.usage["calls"], result.usage_own["calls"]) == ("completed", 4, 2)
    assert await check_invariants(store, at_rest=True) == []


# acceptance: 28 (an ephemeral child), 144 (the ledger outlives it)
async def test_what_a_deleted_sub_agent_used_stays_counted(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    whole = (await loop.send("go", session)).usage
    await loop.close_session(f"{session}.0")
    again = await family.loop().resume(session)
    assert again.usage == whole
    assert (await loop.budget(session))["by_session"][f"{session}.0"]["requests"] == 1
    own, tree = await loop.get_session_stats(session), await loop.get_session_stats(session, tree=True)
    assert (own.llm_calls, tree.llm_calls, tree.total_tokens) == (2, 3, whole["total_tokens"])


# acceptance: 145 (the tree)
async def test_a_limit_of_the_parent_stops_its_sub_agents_and_then_itself(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a", "b", "c"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=3))
    assert result.status == "budget_exceeded"
    assert result.usage["calls"] == 3
    outcomes = sorted(m["content"] for m in await loop.get_messages(session) if m["role"] == "tool")
    assert outcomes == ["budget_exceeded: [budget_exceeded]", "completed: ok", "completed: ok"]
    assert (await loop.send("more", session)).status == "completed"


# acceptance: 31 (a limit of the tree), 145
async def test_the_event_names_the_limit_of_the_tree(small_family: Any) -> None:
    loop = small_family.answering({"go": fan_out(["a"], **TEN_AND_FIVE)})
    told: list[Any] = []
    loop.event_bus.subscribe("status_changed", lambda event: told.append((event.session_id, event.payload)))
    session = await loop.new_session()
    await loop.send("go", session, limits=UsageLimits(total_tokens=20))
    named = [(who, payload["limit"], payload["budget_tokens"]) for who, payload in told if payload["kind"] == "budget_exceeded"]
    assert named == [(session, "total_tokens", 20)], "the sub-agent's call crossed the limit and finished; the parent made none"
    told.clear()
    result = await loop.send("go", session, limits=UsageLimits(total_tokens=15))
    named = [(who, payload["limit"]) for who, payload in told if payload["kind"] == "budget_exceeded"]
    assert named == [(f"{session}.0", "total_tokens"), (session, "total_tokens")]
    assert result.usage["total_tokens"] == 15


# acceptance: 145 (cost and tool calls of the tree)
async def test_cost_and_tool_calls_are_counted_over_the_tree(family: Any) -> None:
    config = AgentLoopConfig(prices={"function": Price(1.0, 1.0)})
    deeper = calls(call("delegate", task="leaf", name="g"), **TEN_AND_FIVE)
    loop = family.answering({"go": fan_out(["deeper"], **TEN_AND_FIVE), "deeper": deeper}, config=config)
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(tool_calls=2))
    assert (result.status, result.usage["calls"]) == ("budget_exceeded", 4), "the tool call of the child counted for the parent"
    result = await loop.send("go", session, limits=UsageLimits(cost=0.000040))
    assert result.status == "budget_exceeded"
    assert round(result.usage.cost or 0, 9) == 0.000045
    assert round((await loop.budget(session))["spent"]["cost"], 9) == 0.000045


# acceptance: 144 (a limit of the child's own)
async def test_a_sub_agent_may_have_a_limit_of_its_own_below_the_parents(small_family: Any) -> None:
    loop = small_family.answering({})
    store = await loop.ensure_store()
    seen: list[Any] = []

    async def go(run: ToolRun) -> str:
        """Have it done by hand."""
        child = await store.create_session(parent_session_id=run.session_id, kind="subagent")
        result = await run.loop.send("a", child, limits=UsageLimits(requests=9))
        seen.append(await run.loop.budget(child))
        return result.status

    loop = small_family.answering({"go": call("go")}, tools=[go])
    session = await loop.new_session()
    assert (await loop.send("go", session, limits=UsageLimits(requests=5))).status == "completed"
    assert seen[0]["limits"] == {"requests": 5}, "while the parent is under way, its ledger is the one"
    assert seen[0]["spent"]["requests"] == 2
    ledgers = await small_family.rows("ledgers", "limits, requests")
    assert sorted(ledgers) == [('{"requests":5}', 3), ('{"requests":9}', 1)]


# acceptance: 144 (a child that runs by itself)
async def test_a_child_whose_parent_rests_stands_for_itself(small_family: Any) -> None:
    loop = small_family.answering({"go": fan_out(["a"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    await loop.send("go", session, limits=UsageLimits(requests=3))
    before = await small_family.rows("ledgers", "ledger_id, requests")
    result = await loop.send("by yourself", f"{session}.0")
    assert result.status == "completed", "the parent's budget of a send that is over binds nobody"
    assert await small_family.rows("ledgers", "ledger_id, requests") == before


# acceptance: 144 (20 sub-agents, one loop)
async def test_twenty_sub_agents_at_once_never_pass_the_limit_in_requests(family: Any) -> None:
    async def slow(_: Any) -> Any:
        await asyncio.sleep(0)
        return say("ok", prompt_tokens=10, completion_tokens=5)

    tasks = [f"t{n}" for n in range(20)]
    loop = family.answering({"go": fan_out(tasks, **TEN_AND_FIVE), **dict.fromkeys(tasks, slow)})
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=12))
    assert (result.status, result.usage["calls"], len(loop.llm.requests)) == ("budget_exceeded", 12, 12)
    budget = await loop.budget(session)
    assert budget["spent"]["requests"] == 12
    assert budget["reserved"]["requests"] == 0
    assert await family.rows("reservations") == []


# acceptance: 144 (the ledger equals the sum of what was reported)
async def test_the_budget_says_by_whom_with_which_model_and_for_what(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a", "b"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(total_tokens=100_000))
    budget = await loop.budget(session)
    assert set(budget) == {"spent", "reserved", "limits", "by_session", "by_model", "by_purpose"}
    assert budget["spent"]["total_tokens"] == result.usage["total_tokens"] == 60
    assert budget["limits"] == {"total_tokens": 100_000}
    assert {who: spent["total_tokens"] for who, spent in budget["by_session"].items()} == {
        session: 30, f"{session}.0": 15, f"{session}.1": 15,
    }  # fmt: skip
    assert [spent["total_tokens"] for spent in budget["by_model"].values()] == [60]
    assert {what: spent["requests"] for what, spent in budget["by_purpose"].items()} == {"round": 4}
    ((*sums,),) = await family.rows("ledgers", "requests, tool_calls, input_tokens, output_tokens")
    assert sums == [4, 2, 40, 20]


async def test_the_budget_of_a_send_without_limits_is_what_it_used(small_family: Any) -> None:
    loop = small_family.loop(say("hi", **TEN_AND_FIVE))
    session = await loop.new_session()
    await loop.send("hello", session)
    budget = await loop.budget(session)
    assert (budget["spent"]["total_tokens"], budget["limits"], budget["by_session"][session]["requests"]) == (15, {}, 1)
    assert await small_family.rows("ledgers") == []


# acceptance: 144 (retries, failures and cancels at once)
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_becomes_of_the_calls_the_ledger_says_what_they_cost(small_family: Any, seed: int) -> None:
    chance = random.Random(seed)

    kinds = [fail(LLMError("overloaded")), say("ok", **TEN_AND_FIVE), call("look", at="x"), hang(after="so far")]

    async def somehow(_: Any) -> Any:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        return chance.choice(kinds)

    async def spread(run: ToolRun) -> str:
        """Twenty sub-agents, each cancelled after a while."""
        children = [await run.store.create_session(parent_session_id=run.session_id, kind="subagent") for _ in range(20)]
        sends = [asyncio.create_task(run.loop.send("work", child)) for child in children]
        while not all(send.done() for send in sends):
            await asyncio.gather(*(run.loop.cancel(child) for child in children if chance.random() < 0.3))
            await asyncio.sleep(0)
        return " ".join(send.result().status for send in sends)

    async def look(at: str) -> str:
        """Look at something."""
        return at

    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=2, backoff_initial=0))
    loop = small_family.answering(
        {"go": call("spread"), "work": somehow, "results": lambda _: chance.choice(kinds[:3])}, tools=[spread, look], config=config
    )
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=25))
    store = await loop.ensure_store()
    sessions = [row.session_id for row in await store.list_sessions(limit=1000)]
    rows = [row for one in sessions for row in await store.list_usage(one)]
    ((*sums,),) = await small_family.rows("ledgers", "requests, input_tokens, output_tokens")
    assert sums == [len(rows), sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows)]
    assert result.usage["calls"] == len(rows) <= 25
    assert await small_family.rows("reservations") == []
    assert await check_invariants(store) == []
