"""What a call may cost is reserved in the batch before it and settled in the batch that stores what came of it; a crash loses neither."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from families import fan_out

from power_loop import AgentLoopConfig, FallbackLLM, LLMError, LLMRetryPolicy, Price, SessionStore, ToolRun, UsageLimits
from power_loop.contracts.clock import SystemClock
from power_loop.contracts.store import Statement
from power_loop.testing import FunctionLLM, ScriptedLLM, call, check_invariants, fail, hang, say

TEN_AND_FIVE = {"prompt_tokens": 10, "completion_tokens": 5}
LIMITS = UsageLimits(total_tokens=100_000)


class Seen:
    """A model that looks into the database while it is asked."""

    def __init__(self, family: Any, *steps: Any) -> None:
        self.reserved: list[list[tuple[Any, ...]]] = []
        self._family, self._steps = family, list(steps)
        self.llm = FunctionLLM(self._answer)

    async def _answer(self, _: Any) -> Any:
        self.reserved.append(await self._family.rows("reservations", "call_key, input_tokens, output_tokens"))
        return self._steps.pop(0)


# acceptance: 144 (reserved before, settled after)
async def test_each_call_is_reserved_while_it_runs_and_settled_with_its_reply(family: Any) -> None:
    seen = Seen(family, call("delegate", task="x", name="0"), say("sub", **TEN_AND_FIVE), say("done", **TEN_AND_FIVE))
    loop = family.loop(llm=seen.llm, config=AgentLoopConfig(max_tokens=700))
    session = await loop.new_session()
    await loop.send("go", session, limits=LIMITS)
    assert [[row[2] for row in rows] for rows in seen.reserved] == [[700], [700], [700]], "the cap of a reply, one call at a time"
    assert all(rows[0][1] > 0 for rows in seen.reserved)
    assert await family.rows("reservations") == []


# acceptance: 144 (no batch more), 187 (with limits)
async def test_a_plain_send_with_limits_is_two_batches_as_well(counting: Any) -> None:
    store, loop = counting("a", "b", "c")
    session = await loop.new_session()
    await loop.send("warm", session)
    store.database.batches.clear()
    await loop.send("without", session)
    without = [len(batch) for batch in store.database.batches]
    store.database.batches.clear()
    store.database.reads = 0
    assert (await loop.send("with", session, limits=LIMITS)).status == "completed"
    assert len(store.database.batches) == len(without) == 2
    assert (without, store.database.reads) == ([2, 3], 0), "nothing is written for limits where there are none"
    written = " ".join(statement.sql for batch in store.database.batches for statement in batch)
    assert all(table in written for table in ("pl_ledgers", "pl_reservations"))


class Counting:
    """A database that keeps what it was asked to write."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.batches: list[list[Statement]] = []
        self.reads = 0

    async def read(self, sql: str, params: Any = ()) -> Any:
        self.reads += 1
        return await self._database.read(sql, params)

    async def write(self, batch: Any) -> None:
        self.batches.append(list(batch))
        await self._database.write(batch)

    async def close(self) -> None:
        await self._database.close()


@pytest.fixture
async def counting(small_family: Any) -> Any:
    def make(*script: Any) -> Any:
        plain = small_family._shared
        store = SessionStore(Counting(plain.database), plain.dialect)
        loop = small_family.loop(*script)
        loop._verbs.store = store
        return store, loop

    return make


# acceptance: 144 (a kill in a model call), 146 (estimated and marked)
async def test_whoever_takes_over_charges_what_the_dead_holder_had_reserved(family: Any) -> None:
    dead = family.loop(llm=ScriptedLLM([hang()]), config=AgentLoopConfig(max_tokens=300))
    session = await dead.new_session()
    await killed_in_a_call(dead, family, session, LIMITS)
    ((_, before, output),) = await family.rows("reservations", "call_key, input_tokens, output_tokens")
    heir = family.loop(say("done", **TEN_AND_FIVE))
    result = await heir.resume(session)
    assert (result.status, result.final_text) == ("completed", "done")
    assert (result.usage["prompt_tokens"], result.usage["completion_tokens"]) == (before + 10, output + 5)
    store = await heir.ensure_store()
    rows = [(row.estimated, row.purpose, row.completion_tokens) for row in await store.list_usage(session)]
    assert rows == [(True, "round", 300), (False, "round", 5)]
    assert (await heir.budget(session))["spent"]["requests"] == 2
    assert await family.rows("reservations") == []
    assert await check_invariants(store) == []


# acceptance: 144 (a new send over a killed one)
async def test_a_new_send_charges_the_dead_call_to_the_send_that_made_it(family: Any) -> None:
    dead = family.loop(llm=ScriptedLLM([hang()]))
    session = await dead.new_session()
    await killed_in_a_call(dead, family, session, UsageLimits(requests=5))
    heir = family.loop("done")
    result = await heir.send("something else", session)
    assert (result.status, result.usage["calls"]) == ("completed", 1)
    assert await family.rows("ledgers", "ledger_id, requests") == [(f"{session}/1", 1)]
    assert [row.send_index for row in await (await heir.ensure_store()).list_usage(session)] == [1, 2]
    assert await family.rows("reservations") == []


# acceptance: 144 (a reservation of nobody)
async def test_what_a_session_reserved_that_nobody_holds_does_not_count(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a"], **TEN_AND_FIVE)}, config=AgentLoopConfig(max_tokens=50))
    session = await loop.new_session()
    store = await loop.ensure_store()
    other = await store.create_session(parent_session_id=session, kind="subagent")
    columns = "session_id, call_key, ledger_id, epoch, input_tokens, output_tokens, created_at"

    async def reserve(request: Any) -> Any:
        values = (other, "1.1.0.round", f"{session}/1", 1, 900, 100, 1)
        await store.database.write([Statement(f"INSERT INTO pl_reservations ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)])
        return fan_out(["a"], **TEN_AND_FIVE)

    loop = family.answering({"go": reserve}, config=AgentLoopConfig(max_tokens=50))
    assert (await loop.send("go", session, limits=UsageLimits(total_tokens=1000))).status == "completed"
    assert (await loop.budget(session))["reserved"]["total_tokens"] == 0


# acceptance: 144 (a reservation of somebody)
async def test_what_a_running_sub_agent_has_reserved_counts_for_the_others(family: Any) -> None:
    begun, go_on, outcomes = asyncio.Event(), asyncio.Event(), list[str]()

    async def waits(_: Any) -> Any:
        begun.set()
        await go_on.wait()
        return say("slow", **TEN_AND_FIVE)

    async def both(run: ToolRun) -> str:
        """Two sub-agents, the second while the first one's model is asked."""
        one, two = [await run.store.create_session(parent_session_id=run.session_id, kind="subagent") for _ in range(2)]
        first = asyncio.create_task(run.loop.send("slow", one))
        await begun.wait()
        outcomes.append((await run.loop.send("second", two)).status)
        outcomes.append(str((await run.loop.budget(one))["reserved"]["output_tokens"]))
        go_on.set()
        outcomes.append((await first).status)
        return "done"

    loop = family.answering({"go": call("both"), "slow": waits}, config=AgentLoopConfig(max_tokens=500), tools=[both])
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(output_tokens=500))
    assert outcomes == ["budget_exceeded", "500", "completed"]
    assert (result.status, result.usage["calls"]) == ("completed", 3), "once the call is settled there is room again"


# acceptance: 144 (retries), 146
async def test_each_attempt_is_let_through_and_charged_by_itself(family: Any) -> None:
    policy = LLMRetryPolicy(max_attempts=5, backoff_initial=0)
    failing = [fail(LLMError("overloaded")) for _ in range(5)]
    loop = family.loop(*failing[:3], config=AgentLoopConfig(retry_policy=policy))
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=3))
    assert (result.status, result.usage["calls"], len(loop.llm.requests)) == ("budget_exceeded", 3, 3)
    assert all(row.estimated for row in await (await loop.ensure_store()).list_usage(session))
    assert await family.rows("ledgers", "requests") == [(3,)]
    assert await family.rows("reservations") == []


# acceptance: 144 (retries)
async def test_a_model_that_tries_others_is_let_through_to_each_of_them_by_itself(family: Any) -> None:
    models = [ScriptedLLM([fail(LLMError("overloaded", status_code=529))], strict=False, model=f"m{n}") for n in range(4)]
    loop = family.loop(llm=FallbackLLM(*models))
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=2))
    assert (result.status, result.usage["calls"]) == ("budget_exceeded", 2)
    assert [len(model.requests) for model in models] == [1, 1, 0, 0]
    assert await family.rows("ledgers", "requests") == [(2,)]
    assert await family.rows("reservations") == []
    assert await check_invariants(await loop.ensure_store()) == []


# acceptance: 146 (cancelled)
async def test_a_cancelled_call_is_charged_by_estimate_and_gives_its_reservation_back(family: Any) -> None:
    loop = family.loop(hang(after="so far"))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session, limits=LIMITS))
    while not await family.rows("reservations"):
        await asyncio.sleep(0.01)
    while not await loop.cancel(session):
        await asyncio.sleep(0.01)
    result = await sending
    assert (result.status, result.usage["calls"], result.usage.estimated) == ("cancelled", 1, True)
    assert await family.rows("ledgers", "requests, output_tokens") == [(1, result.usage["completion_tokens"])]
    assert await family.rows("reservations") == []


# acceptance: 144 (the task is cancelled)
async def test_a_cancelled_task_leaves_no_reservation(family: Any) -> None:
    loop = family.loop(hang(), "done")
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session, limits=LIMITS))
    while not await family.rows("reservations"):
        await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert await family.rows("reservations") == []
    result = await loop.resume(session)
    assert (result.status, result.usage["calls"]) == ("completed", 2)
    assert await family.rows("ledgers", "requests") == [(2,)]


# acceptance: 145 (a cost without a price)
async def test_a_cost_limit_for_an_unpriced_model_is_refused_before_anything_is_written(family: Any) -> None:
    loop = family.loop(config=AgentLoopConfig(prices={"other*": Price(1.0, 1.0)}))
    session = await loop.new_session()
    with pytest.raises(ValueError, match="price"):
        await loop.send("go", session, limits=UsageLimits(cost=1.0))
    assert await family.rows("records") == await family.rows("ledgers") == []


# acceptance: 145 (seconds)
async def test_the_time_limit_says_so_and_stops_the_tree(family: Any) -> None:
    loop = family.answering({"go": fan_out(["slow"], **TEN_AND_FIVE), "slow": hang()})
    told: list[Any] = []
    loop.event_bus.subscribe("status_changed", lambda event: told.append(event.payload))
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(seconds=1.0))
    assert result.status == "budget_exceeded"
    assert [payload["limit"] for payload in told if payload["kind"] == "budget_exceeded"] == ["seconds"]
    store = await loop.ensure_store()
    stops = "SELECT body FROM pl_records WHERE kind = 'stop_requested' AND session_id = ?"
    assert '"time limit"' in (await store.database.read(stops, (session,)))[0][0]


# acceptance: 144 (resume with more)
async def test_a_resume_raises_the_limits_of_the_ledger(family: Any) -> None:
    loop = family.answering({"go": fan_out(["a", "b"], **TEN_AND_FIVE)})
    session = await loop.new_session()
    assert (await loop.send("go", session, limits=UsageLimits(requests=2))).status == "budget_exceeded"
    heir = family.loop("done")
    assert (await heir.resume(session)).status == "budget_exceeded"
    more = await heir.resume(session, limits=UsageLimits(requests=3))
    assert (more.status, more.usage["calls"]) == ("completed", 3)
    assert (await heir.budget(session))["limits"] == {"requests": 3}


# acceptance: 144 (a limit that comes later)
async def test_a_limit_that_a_resume_brings_counts_what_was_spent_before_it(family: Any) -> None:
    loop = family.loop(call("delegate", task="x", name="0"), "sub", fail(LLMError("gone")), "done")
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("go", session)
    assert (await loop.resume(session, limits=UsageLimits(requests=4))).status == "completed"
    ((*sums,),) = await family.rows("ledgers", "requests, tool_calls")
    assert sums == [4, 1]


async def killed_in_a_call(loop: Any, family: Any, session: str, limits: UsageLimits) -> None:
    """The loop's process is gone while its model is asked: its lease ends, and nobody gives it back."""
    sending = asyncio.create_task(loop.send("go", session, limits=limits))
    while not await family.rows("reservations"):
        await asyncio.sleep(0.01)
    store = await loop.ensure_store()
    taken = f"UPDATE pl_sessions SET epoch = epoch + 1, holder = 'nobody', lease_until = 1 WHERE session_id = '{session}'"
    await store.database.write([Statement(taken)])
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert SystemClock().now_ms() > 1
