"""The stores that die: what users write crash tests with."""

from __future__ import annotations

import pytest

from power_loop import AgentLoopConfig, RunPolicy, StatefulAgentLoop, tool
from power_loop.store.sql_store import open_store
from power_loop.testing import Died, DyingStore, ScriptedLLM, call, check_invariants, say


@pytest.fixture
async def store():
    store = await open_store(":memory:")
    yield store
    await store.close()


def agent(store, script, charged, **more):
    @tool(effects="once")
    async def charge(amount: int) -> str:
        """Charge the card."""
        charged.append(amount)
        return "charged"

    # The dead one cannot give its lease back; a short one is soon over.
    config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.1))
    return StatefulAgentLoop(llm=ScriptedLLM(script, strict=False), store=store, tools=[charge], config=config, **more)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_card_is_charged_once_wherever_the_process_dies(store, at, when):
    charged = []
    session = await store.create_session()
    script = [call("charge", amount=7), say("Done.")]
    dying = DyingStore(store, at=at, when=when)
    async with agent(dying, script, charged) as loop:
        with pytest.raises(Died):
            await loop.send("Charge 7.", session)
    assert dying.dead
    async with agent(store, script[len(charged) :], charged) as loop:
        if (await store.look(session)).head == 0:
            await loop.send("Charge 7.", session)
        else:
            await loop.resume(session)
    assert charged == [7]
    assert await check_invariants(store, at_rest=True) == []


async def test_a_dead_store_stays_dead(store):
    dying = DyingStore(store, at=1, when="after")
    with pytest.raises(Died):
        await dying.create_session(session_id="s")
    for later in (dying.look("s"), dying.create_session(session_id="t"), dying.set_runtime_state("s", "k", 1)):
        with pytest.raises(Died):
            await later
    assert (await store.look("s")).head == 0, "the batch of its last commit is there"


async def test_a_store_that_dies_before_its_commit_wrote_nothing(store):
    with pytest.raises(Died):
        await DyingStore(store, at=1, when="before").create_session(session_id="s")
    assert await store.list_sessions() == []
