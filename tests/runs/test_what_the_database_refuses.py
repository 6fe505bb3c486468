"""What a database does not take: the send fails and is over, it is charged, and nothing is held; the next send begins as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import AgentLoopConfig, StatefulAgentLoop, ToolPolicy, ToolRun, UsageLimits, open_store, tool
from power_loop.contracts.store import Append, Statement
from power_loop.errors import StoreRefused, StoreUnavailable
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, check_invariants, say
from power_loop.tools.projectors import BackgroundRuntimeProjector

REFUSALS = (StoreRefused("too long"), OverflowError("Python int too large"), ValueError("no such character"))


@pytest.fixture
def refusing(house: Any) -> Any:
    """Loops whose store refuses each batch with a certain word in it, whose letters it does not have; how often it did."""

    def loop(error: Exception, *script: Any, **settings: Any) -> StatefulAgentLoop:
        loop = house.loop(*script, **settings)
        append = loop.store.append

        async def picky(batch: Append) -> None:
            if any("UNSTÖRABLE" in str(each) for each in (*batch.rows, *batch.posts)):
                loop.refused += 1
                raise error
            await append(batch)

        loop.refused = 0
        loop.store.append = picky
        return loop

    return loop


async def stands(house: Any, loop: StatefulAgentLoop, session: str) -> None:
    """Over, told, and free for others."""
    assert house.types()[-1] in ("session_ended", "result")
    assert "agent_error" in house.types()
    assert (await loop.doctor(session)).state != "running"
    other = house.loop(say("hello"))
    assert (await other.send("are you there?", session, on_busy="raise", heal_pending=True)).status == "completed"
    assert not await check_invariants(loop.store)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_reply_that_cannot_be_stored_is_charged_and_its_send_is_over(house: Any, refusing: Any, error: Exception) -> None:
    loop = refusing(error, say("UNSTÖRABLE", prompt_tokens=70, completion_tokens=7))
    session = await loop.new_session()
    with pytest.raises(type(error)):
        await loop.send("go", session)
    assert [(told["usage"]["total_tokens"], told["error_type"]) for told in house.told("usage_updated")] == [(77, "StoreRefused")]
    assert [message["role"] for message in await loop.get_messages(session)] == ["user"]
    await stands(house, loop, session)


async def test_calls_of_a_reply_that_cannot_be_stored_are_not_run(house: Any, refusing: Any) -> None:
    ran: list[str] = []

    @tool
    def note(what: str) -> str:
        """Note."""
        ran.append(what)
        return ""

    loop = refusing(REFUSALS[0], calls(call("note", what="a"), text="UNSTÖRABLE"), tools=[note])
    session = await loop.new_session()
    with pytest.raises(StoreRefused):
        await loop.send("go", session)
    assert (ran, await loop.get_pending(session)) == ([], None)
    await stands(house, loop, session)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_result_that_cannot_be_stored_is_told_as_lost_and_its_call_is_not_made_again(
    house: Any, refusing: Any, error: Exception
) -> None:
    paid: list[str] = []

    @tool(effects="once")
    def pay(what: str) -> str:
        """Pay."""
        paid.append(what)
        return f"UNSTÖRABLE {what}"

    loop = refusing(error, call("pay", what="a"), say("I see."), tools=[pay])
    session = await loop.new_session()
    with pytest.raises(type(error)):
        await loop.send("go", session)
    result = await loop.resume(session)
    assert (result.status, result.final_text) == ("completed", "I see.")
    told = [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]
    assert sum(text.startswith("[It ran, but what it gave is lost") for text in told) == 1
    assert paid == ["a"]
    await stands(house, loop, session)


async def test_what_was_heard_with_it_is_heard_by_the_next_send(house: Any, refusing: Any) -> None:
    loop = refusing(REFUSALS[0], say("UNSTÖRABLE"), say("hello both"))
    session = await loop.new_session()
    await loop.enqueue("first", session)
    with pytest.raises(StoreRefused):
        await loop.send("second", session)
    assert (await loop.send("third", session)).final_text == "hello both"
    texts = str(await loop.get_messages(session))
    assert all(texts.count(word) == 1 for word in ("first", "second", "third"))


async def test_a_result_that_fits_is_kept_beside_one_that_is_refused(house: Any, refusing: Any) -> None:
    @tool(effects="pure")
    async def look(at: int) -> str:
        """Look."""
        return "UNSTÖRABLE" if at else "seen"

    loop = refusing(REFUSALS[0], calls(call("look", at=0), call("look", at=1)), say("I see."), tools=[look])
    session = await loop.new_session()
    with pytest.raises(StoreRefused):
        await loop.send("go", session)
    assert (await loop.resume(session)).final_text == "I see."
    kept, lost = [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]
    assert kept == "seen"
    assert lost.startswith("[It ran, but what it gave is lost")


async def test_what_a_call_leaves_for_others_and_cannot_be_stored_is_told_as_lost(house: Any, refusing: Any) -> None:
    other: list[str] = []

    @tool(effects="once")
    async def mail(run: ToolRun) -> str:
        """Mail."""
        await run.enqueue("UNSTÖRABLE", other[0])
        return "sent"

    loop = refusing(REFUSALS[0], call("mail"), say("I see."), tools=[mail])
    session, _ = await loop.new_session(), other.append(await loop.new_session())
    with pytest.raises(StoreRefused):
        await loop.send("go", session)
    assert (await loop.resume(session)).final_text == "I see."
    assert "with all that it left for others" in (await loop.get_messages(session))[2]["content"]
    await stands(house, loop, session)


async def test_the_end_of_a_job_is_told_again_where_the_reply_to_it_was_refused(house: Any, refusing: Any) -> None:
    loop = refusing(REFUSALS[0], say("UNSTÖRABLE"), config=AgentLoopConfig(tooling=ToolPolicy(projectors=(BackgroundRuntimeProjector(),))))
    session = await loop.new_session()
    await loop.store.begin_job(session, "j1", kind="command", command="ls", holder="h", timeout_s=5)
    await loop.store.end_job(session, "j1", status="completed", output="done")
    with pytest.raises(StoreRefused):
        await loop.send("go", session)
    assert len(await loop.store.unseen_jobs(session)) == 1


async def test_a_send_whose_first_word_is_refused_leaves_no_ledger_and_no_key(house: Any, refusing: Any) -> None:
    loop = refusing(REFUSALS[0], say("hello"), on={"message.append": lambda ctx: None})
    session, limits = await loop.new_session(), UsageLimits(total_tokens=10_000)
    with pytest.raises(StoreRefused):
        await loop.send("UNSTÖRABLE", session, limits=limits, key="k")
    result = await loop.send("go", session, limits=limits, key="k")
    assert (result.status, result.final_text, result.send_index) == ("completed", "hello", 1)
    assert not await check_invariants(loop.store)


async def test_an_end_whose_own_words_are_refused_is_told_in_short(house: Any, refusing: Any) -> None:
    def breaks(context: Any) -> None:
        raise RuntimeError("UNSTÖRABLE" * 1000)

    loop = refusing(REFUSALS[0], say("hello"), on={"round.start": breaks})
    session = await loop.new_session()
    with pytest.raises(RuntimeError, match="UNST"):
        await loop.send("go", session)
    assert (await loop.doctor(session)).state != "running"
    await stands(house, loop, session)


async def test_a_database_that_is_away_is_not_taken_for_one_that_refuses(house: Any, refusing: Any) -> None:
    loop = refusing(StoreUnavailable("away"), say("UNSTÖRABLE"))
    session = await loop.new_session()
    with pytest.raises(StoreUnavailable):
        await loop.send("go", session)
    assert loop.refused == 2, "the reply, and once more on the way out"
    assert house.types()[-1] == "session_ended"


# --- on real servers --------------------------------------------------------------------------------------------


@pytest.fixture(params=["mariadb", "postgresql"])
async def dsn(request: Any, tmp_path: Path) -> AsyncIterator[str]:
    async with engines.fresh(request.param, tmp_path) as dsn:
        yield dsn


async def test_a_reply_that_a_server_refuses_leaves_the_session_free(dsn: str) -> None:
    """Longer than MariaDB's default packet; of PostgreSQL a rule of the table's."""
    store = await open_store(dsn)
    if dsn.startswith("postgresql"):
        rule = "ALTER TABLE pl_records ADD CONSTRAINT short CHECK (power(10, length(content)::float8) > 0)"
        await store.database.write([Statement(rule)])
    async with StatefulAgentLoop(llm=FunctionLLM(lambda request: "x" * 17_000_000), store=store) as loop:
        session = await loop.new_session()
        with pytest.raises(StoreRefused):
            await loop.send("go", session)
        assert (await loop.doctor(session)).state == "idle"
        assert (await loop.budget(session))["spent"]["total_tokens"] > 4_000_000
    async with StatefulAgentLoop(llm=ScriptedLLM([say("shorter")]), store=store) as loop:
        assert (await loop.send("again", session, on_busy="raise")).status == "completed"
    await store.close()
