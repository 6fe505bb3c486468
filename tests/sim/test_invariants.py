"""`check_invariants` finds what is wrong: each of these hands breaks one thing, and it is named."""

from __future__ import annotations

import pytest

from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import CallCharged, ModelReplied, SendEnded, ToolReturned, UserSaid
from power_loop.contracts.store import Statement
from power_loop.contracts.usage import CallUsage
from power_loop.store.sql_store import open_store
from power_loop.testing.hand import Hand
from power_loop.testing.invariants import check_invariants, protocol_errors

TWO_CALLS = (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}"))


@pytest.fixture
async def store():
    store = await open_store(":memory:")
    await store.create_session(session_id="s")
    hand = await Hand.of(store, "s", "a")
    await store.post("s", UserSaid("hi"), key="k")
    hand.head = await store.look("s")
    await hand.take(UserSaid("hi"), heard=[(await store.inbox("s"))[0].item_id])
    await hand.append(ModelReplied("", TWO_CALLS, usage=hand.paid(3, 2)), ToolReturned("c2", "two"), ToolReturned("c1", "one"))
    await hand.release(ModelReplied("done", usage=hand.paid(5, 1)), SendEnded("completed"))
    yield store
    await store.close()


async def test_a_sound_store_has_nothing_to_report(store):
    assert await check_invariants(store, acknowledged=[("s", "k")], at_rest=True) == []


BROKEN = {
    "I1": "DELETE FROM pl_inbox",
    "I2": "UPDATE pl_inbox SET heard_seq = 99",
    "I4": "UPDATE pl_sessions SET epoch = 1",
    "I5": "UPDATE pl_records SET epoch = 1 WHERE seq = 5",
    "I6": "DELETE FROM pl_records WHERE seq = 3",
    "I8": "UPDATE pl_records SET call_id = 'c1' WHERE seq = 3",
    "I19": "UPDATE pl_inbox SET heard_seq = NULL",
    "I20": "DELETE FROM pl_sessions",
    "I23": "UPDATE pl_sessions SET prompt_tokens = 9",
}


@pytest.mark.parametrize(("invariant", "sql"), BROKEN.items(), ids=BROKEN)
async def test_what_is_broken_is_named(store, invariant, sql):
    await store.database.write([Statement(sql)])
    found = await check_invariants(store, acknowledged=[("s", "k")], at_rest=True)
    assert any(f"{invariant} " in text for text in found), found


async def test_what_waits_aside_is_waited_for_by_nobody(store):
    await store.post("s", CallCharged("fold", CallUsage(3, 2, calls=1)), key="charge", mode="aside")
    assert await check_invariants(store, at_rest=True) == []


async def test_a_word_between_a_call_and_its_result_is_found(store):
    hand = await Hand.of(store, "s", "a")
    await hand.take(UserSaid("more"), ModelReplied("", TWO_CALLS))
    await hand.append(ToolReturned("c1", "one"), UserSaid("no!"), ToolReturned("c2", "two"))
    assert any("a word stands between" in text for text in await check_invariants(store))


async def test_a_lease_that_somebody_holds_at_rest_is_found(store):
    await (await Hand.of(store, "s", "a")).take(UserSaid("more"))
    assert await check_invariants(store) == []
    assert len(await check_invariants(store, at_rest=True)) == 2, "the lease, and the send that goes on"


def test_the_protocol_is_that_of_every_provider():
    asks = {"role": "assistant", "tool_calls": [{"id": "c1"}, {"id": "c2"}]}
    one, two = ({"role": "tool", "tool_call_id": call} for call in ("c1", "c2"))
    user = {"role": "user", "content": "hi"}
    assert protocol_errors([user, asks, one, two, user]) == []
    for wrong in ([asks, two, one], [asks, one], [asks, one, user, two], [asks, one, two, two], [one]):
        assert protocol_errors(wrong), wrong
