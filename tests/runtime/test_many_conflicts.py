"""A send whose writes meet something new each time."""

from __future__ import annotations

import pytest

from power_loop import SessionLeaseLost, StatefulAgentLoop, StoreUnavailable
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Append
from power_loop.store.sql_store import open_store
from power_loop.testing import ScriptedLLM, check_invariants, say


async def test_a_send_that_cannot_get_through_says_so_and_can_be_gone_on_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("power_loop.runtime.send.MAX_CONFLICTS", 3)
    store = await open_store(":memory:")
    session, posts = await store.create_session(), iter(range(5))
    append = store.append

    async def after_a_post(batch: Append) -> None:
        if batch.seen.holder is not None and (n := next(posts, None)) is not None:
            await store.post(session, UserSaid(f"word {n}"), key=str(n), mode="aside")
        await append(batch)

    monkeypatch.setattr(store, "append", after_a_post)
    async with StatefulAgentLoop(llm=ScriptedLLM([say("one"), say("two")], strict=False), store=store) as loop:
        with pytest.raises(StoreUnavailable, match="3 writes in a row met something") as error:
            await loop.send("go", session)
        assert not isinstance(error.value, SessionLeaseLost)
        assert (await store.look(session)).holder is None, "the lease was given back"
        result = await loop.resume(session)
    assert result.status == "completed"
    said = " ".join(str(message.content) for message in await store.load_all_messages(session))
    assert all(f"word {n}" in said for n in range(5))
    assert await check_invariants(store, at_rest=True) == []
    await store.close()
