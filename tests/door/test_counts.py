"""What a send costs, counted: write batches and rows read, however long the history; and no event that nobody hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, ContextPolicy, LLMSummaryFold, SessionStore, StatefulAgentLoop, open_store, tool
from power_loop.contracts import payloads
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say


class Counting:
    """A database that counts what it is asked for."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.dialect = database.dialect
        self.reads: list[tuple[str, list[Any]]] = []
        self.writes: list[Any] = []

    async def read(self, sql: str, params: Any = ()) -> Any:
        rows = await self._database.read(sql, params)
        self.reads.append((sql, rows))
        return rows

    async def write(self, batch: Any) -> None:
        self.writes.append(batch)
        await self._database.write(batch)

    async def close(self) -> None:
        await self._database.close()

    def take(self) -> tuple[int, int]:
        """(write batches, reads) since the last look."""
        counted = len(self.writes), len(self.reads)
        self.writes.clear(), self.reads.clear()
        return counted


@pytest.fixture(params=["sqlite", "memory"])
async def counted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    """A store on a counting database; ``store.database`` is the counter."""
    plain = await open_store(str(tmp_path / "app.db") if request.param == "sqlite" else ":memory:")
    store = SessionStore(Counting(plain.database), plain.database.dialect)
    yield store
    await store.close()


@tool(effects="pure")
async def look(at: str) -> str:
    """Look at something."""
    return f"a {at}"


@tool
async def order(what: str) -> str:
    """Order something; it must not happen twice."""
    return f"ordered {what}"


async def cost_of(store: SessionStore, *script: Any, prepare: Any = None, times: int = 1, **settings: Any) -> tuple[int, int]:
    """(write batches, reads) of the last of ``times`` warm sends with this script."""
    model = ScriptedLLM([say("warm"), *script * times], keep_requests=False)
    async with StatefulAgentLoop(llm=model, store=store, tools=[look, order], **settings) as loop:
        session = await loop.new_session()
        await loop.send("warm up", session)
        if prepare is not None:
            prepare(loop)
        for _ in range(times):
            store.database.take()
            assert (await loop.send("go", session)).status == "completed"
        return store.database.take()


PLAIN = (say("fine"),)


# acceptance: 187 (a plain send)
async def test_a_plain_warm_send_is_two_write_batches_and_reads_nothing(counted: SessionStore) -> None:
    assert await cost_of(counted, *PLAIN) == (2, 0)


# acceptance: 187 (the two hundredth)
async def test_the_two_hundredth_send_costs_what_the_second_does(counted: SessionStore) -> None:
    assert await cost_of(counted, *PLAIN, times=200) == (2, 0)


# acceptance: 187 (tool rounds)
@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("name", ["look", "order"])
async def test_a_tool_round_is_two_write_batches_more(counted: SessionStore, rounds: int, name: str) -> None:
    argument = {"look": {"at": "x"}, "order": {"what": "x"}}[name]
    assert await cost_of(counted, *[call(name, **argument)] * rounds, say("done")) == (2 + 2 * rounds, 0)


# acceptance: 187 (tool rounds, late)
async def test_the_two_hundredth_tool_round_costs_what_the_first_does(counted: SessionStore) -> None:
    assert await cost_of(counted, call("order", what="x"), say("done"), times=100) == (4, 0)


# acceptance: 187 (a `once` tool)
async def test_the_start_of_a_once_tool_shares_the_replys_batch_unless_a_handler_stands_between(counted: SessionStore) -> None:
    def between(loop: Any) -> None:
        loop.hooks.register("tool.before", lambda ctx: None)

    assert await cost_of(counted, call("order", what="x"), say("done")) == (4, 0)
    assert await cost_of(counted, call("order", what="x"), say("done"), prepare=between) == (5, 0)
    assert await cost_of(counted, call("look", at="x"), say("done"), prepare=between) == (4, 0)


# acceptance: 187 (several calls at once)
async def test_results_that_land_together_share_a_batch(counted: SessionStore) -> None:
    eight = calls(*(call("look", at=str(n)) for n in range(8)))
    assert await cost_of(counted, eight, say("done")) == (4, 0)


# acceptance: 187 (what listens)
async def test_listeners_and_handlers_that_read_only_cost_no_batch(counted: SessionStore) -> None:
    heard: list[Any] = []
    assert await cost_of(counted, *PLAIN, prepare=lambda loop: loop.event_bus.subscribe(None, heard.append)) == (2, 0)
    assert heard


async def test_each_batch_of_a_plain_send_is_one_update_and_its_rows(counted: SessionStore) -> None:
    model = ScriptedLLM(["a", "b"])
    loop = StatefulAgentLoop(llm=model, store=counted)
    session = await loop.new_session()
    await loop.send("x", session)
    counted.database.take()
    await loop.send("y", session)
    words = [[statement.sql.split()[0] for statement in batch] for batch in counted.database.writes]
    await loop.aclose()
    assert words == [["UPDATE", "INSERT"], ["UPDATE", "INSERT", "INSERT"]]
    assert [batch[0].touches for batch in counted.database.writes] == [1, 1]


# acceptance: 187 (a cold send)
async def test_a_cold_send_reads_no_row_that_a_fold_covers(counted: SessionStore) -> None:
    fold = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1), fold_target_ratio=0.3)
    config = AgentLoopConfig(context_tokens=1000, context=fold)
    model = FunctionLLM(lambda request: say("short") if request.reason == "fold" else say("word " * 100))
    loop = StatefulAgentLoop(llm=model, store=counted, config=config)
    session = await loop.new_session()
    for _ in range(30):
        await loop.send("word " * 50, session)
    through = (await counted.look(session)).fold_through
    assert through > 50, "most of the history is folded"
    counted.database.take()
    cold = StatefulAgentLoop(llm=model, store=counted, config=config)
    await cold.prewarm(session)
    rows = [row for sql, found in counted.database.reads if " FROM pl_records" in sql and "pl_session_info" not in sql for row in found]
    await cold.aclose()
    await loop.aclose()
    assert rows
    assert min(row[0] for row in rows) > through
    assert len(counted.database.reads) <= 4


async def test_prewarming_a_warm_session_looks_at_its_row_and_reads_it_again_only_where_somebody_wrote(counted: SessionStore) -> None:
    loop, other = (StatefulAgentLoop(llm=ScriptedLLM(["a", "b", "c"]), store=counted) for _ in range(2))
    session = await loop.new_session()
    await loop.send("x", session)
    counted.database.take()
    assert await loop.prewarm(session)
    assert counted.database.take() == (0, 1)
    await other.send("y", session)
    assert await loop.prewarm(session)
    counted.database.take()
    await loop.send("z", session)
    assert counted.database.take() == (2, 0), "it was warm"
    await loop.aclose()
    await other.aclose()


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The types of all payloads that are built."""
    types: list[str] = []
    build = payloads.said

    def noting(type: str, fields: Any) -> Any:
        types.append(str(type))
        return build(type, fields)

    monkeypatch.setattr(payloads, "said", noting)
    return types


# acceptance: 187 (no payload built without a listener)
@pytest.mark.parametrize("listens_to", [None, "result", "usage_updated"])
async def test_no_payload_is_built_that_nobody_listens_to(home: Any, built: list[str], listens_to: str | None) -> None:
    loop = home.loop(call("look", at="x"), say("done", think="hm"), say("summary"), tools=[look])
    heard: list[str] = []
    if listens_to is not None:
        loop.event_bus.subscribe(listens_to, lambda event: heard.append(str(event.type)))
    session = await loop.new_session()
    await loop.send("go", session)
    await loop.enqueue("more", session)
    assert built == heard == {None: [], "result": ["result"], "usage_updated": ["usage_updated"] * 2}[listens_to]


async def test_with_a_listener_to_everything_they_are_built(home: Any, built: list[str]) -> None:
    loop = home.loop(say("done"))
    loop.event_bus.subscribe(None, lambda event: None)
    await loop.run("go")
    assert len(built) > 8
