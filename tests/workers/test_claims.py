"""Claims on every engine: none is given out twice, none is forgotten, and time is the database's."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from power_loop import SessionStore
from power_loop.contracts.records import ModelReplied, SendEnded, StopRequested, UserSaid
from power_loop.contracts.store import MAX_TAKEOVERS, Conflict, Statement
from power_loop.store.claims import Standing
from power_loop.testing.hand import Hand

SOON_MS, FAR_OFF_MS = 1, 3_600_000


async def waiting(store: SessionStore, *names: str, agent: str = "agent") -> None:
    """Sessions in each of which a word waits."""
    for name in names:
        await store.create_session(session_id=name, agent=agent)
        await store.post(name, UserSaid("hello"), key="k")


async def claimed(store: SessionStore, limit: int = 10, **what: object) -> list[str]:
    return [standing.session_id for standing in (await store.claim("us", limit=limit, **what))[1]]  # type: ignore[arg-type]  # as `claim` takes them


async def one(store: SessionStore) -> tuple[str, Standing]:
    """The claim of the one session that is due."""
    token, (standing,) = await store.claim("us", limit=10)
    return token, standing


# acceptance: 139 (claims)
async def test_claimers_at_once_get_each_session_once_and_all_of_them(store: SessionStore) -> None:
    names = [f"s{n}" for n in range(40)]
    await waiting(store, *names)
    found = [name for batch in await asyncio.gather(*(claimed(store, 3) for _ in range(20))) for name in batch]
    while more := await claimed(store, 3):
        found += more
    assert Counter(found) == Counter(names)


async def test_a_claim_takes_no_more_than_its_limit_and_the_longest_waiting_first(store: SessionStore) -> None:
    await waiting(store, "c", "a", "b")
    for name, at in (("b", 1), ("c", 2), ("a", 3)):
        await store.database.write([Statement("UPDATE pl_sessions SET runnable_at = ? WHERE session_id = ?", (at, name))])
    assert [await claimed(store, 2), await claimed(store, 2)] == [["b", "c"], ["a"]]


async def test_only_what_is_due_free_and_of_the_right_agent_is_claimed(store: SessionStore) -> None:
    await waiting(store, "free", "held", "archived", "poisoned")
    await waiting(store, "theirs", agent="other")
    await store.create_session(session_id="idle", agent="agent")
    await (await Hand.of(store, "held", "them")).take()
    await store.archive_session("archived")
    await store.database.write([Statement("UPDATE pl_sessions SET takeovers = ? WHERE session_id = 'poisoned'", (MAX_TAKEOVERS,))])
    assert await claimed(store, agents=["agent"]) == ["free"]
    assert await claimed(store) == ["theirs"]


async def test_a_session_whose_lease_ran_out_is_claimed_by_those_who_look_for_orphans(store: SessionStore) -> None:
    await waiting(store, "s")
    hand = await Hand.of(store, "s", "them")
    await hand.store.append(hand.taking(until=SOON_MS))
    assert await claimed(store, orphaned=False) == []
    assert await claimed(store, free=False) == ["s"]


async def test_how_a_session_stands_is_told_with_its_claim(store: SessionStore) -> None:
    await waiting(store, "s")
    _, standing = await one(store)
    assert (standing.head, standing.over, standing.words, standing.waiting, standing.next_due) == (0, True, True, True, None)
    hand = await Hand.of(store, "s", "us")
    (item,) = await store.inbox("s")
    await hand._write(hand.taking(UserSaid("hello"), heard=[item.item_id]), [UserSaid("hello")])
    now = await store.standing("s")
    assert now is not None
    assert (now.holder, now.last_kind, now.over, now.words, now.send_index) == ("us", "user_said", False, False, 1)
    assert await store.standing("gone") is None


async def test_a_session_that_was_settled_is_due_when_something_is_posted(store: SessionStore) -> None:
    await waiting(store, "s")
    token, _ = await one(store)
    (item,) = await store.inbox("s")
    hand = await Hand.of(store, "s", "us")
    await hand._write(hand.taking(UserSaid("hello"), heard=[item.item_id]), [UserSaid("hello")])
    await hand.release(ModelReplied("hi"), SendEnded("completed"))
    now = await store.standing("s")
    assert now is not None
    assert await store.settle(now, token, due_in_ms=None)
    assert await claimed(store) == []
    await store.post("s", UserSaid("more"), key="l")
    assert await claimed(store) == ["s"]


async def test_a_word_that_comes_while_a_session_is_given_back_is_not_forgotten(store: SessionStore) -> None:
    await waiting(store, "s")
    token, standing = await one(store)
    await store.post("s", UserSaid("more"), key="l")
    with pytest.raises(Conflict):
        await store.settle(standing, token, due_in_ms=None)
    await store.give_back("s", token)
    assert await claimed(store) == ["s"]


async def test_a_claim_that_somebody_else_has_is_not_settled(store: SessionStore) -> None:
    await waiting(store, "s")
    token, standing = await one(store)
    with pytest.raises(Conflict):
        await store.settle(standing, token + "x", due_in_ms=None)
    await store.give_back("s", token + "x")
    assert await claimed(store) == []


async def test_what_is_put_off_is_due_later(store: SessionStore) -> None:
    await waiting(store, "s", "t")
    token, (s, t) = await store.claim("us", limit=2)
    await store.settle(s, token, due_in_ms=FAR_OFF_MS, attempts=3)
    await store.settle(t, token, due_in_ms=0)
    assert await claimed(store) == [t.session_id]
    later = await store.standing(s.session_id)
    assert later is not None
    assert later.attempts == 3


async def test_a_late_cancel_is_dropped_with_a_send_that_is_over(store: SessionStore) -> None:
    await store.create_session(session_id="s", agent="agent")
    await store.post("s", StopRequested("cancelled"), key="late")
    token, standing = await one(store)
    assert (standing.words, standing.waiting) == (False, True)
    await store.settle(standing, token, due_in_ms=None)
    assert await store.inbox("s") == []


async def test_a_word_for_later_is_due_then_and_not_heard_before(store: SessionStore) -> None:
    now = store.clock.now_ms()
    await store.create_session(session_id="s", agent="agent")
    await store.post("s", UserSaid("later"), key="k", not_before=now + FAR_OFF_MS)
    assert await claimed(store) == []
    assert await store.inbox("s") == []
    assert not (await store.look("s")).waiting
    (item,) = await store.inbox("s", due=False)
    assert item.not_before is not None
    assert abs(item.not_before - now - FAR_OFF_MS) < 1_000, "as our clock shows it"
    await store.post("s", UserSaid("now"), key="l")
    token, standing = await one(store)
    await store.database.write([Statement("UPDATE pl_inbox SET heard_seq = 0 WHERE item_key = 'l'")])
    await store.settle(standing, token, due_in_ms=None)
    ((due,),) = await store.database.read("SELECT runnable_at FROM pl_sessions")
    assert abs(due - now - FAR_OFF_MS) < 60_000, "by the database's own clock"


async def test_the_lease_of_a_dead_holder_ends_and_a_living_one_that_was_mistaken_writes_on(store: SessionStore) -> None:
    await store.create_session(session_id="s", agent="agent")
    hand = await Hand.of(store, "s", "them")
    await hand.take(UserSaid("hello"))
    (lease,) = await store.leases(agents=["agent"])
    assert (lease.holder, lease.lapsed) == ("them", False)
    assert await store.leases(due=True) == []
    await store.orphan(lease)
    assert [each.lapsed for each in await store.leases(due=True)] == [True]
    await hand.append(ModelReplied("hi"))
    await store.orphan(lease._replace(epoch=lease.epoch - 1))
    assert await claimed(store) == []


async def test_claims_tell_whose_they_are(store: SessionStore) -> None:
    await waiting(store, "s")
    token, _ = await one(store)
    assert await store.claims() == [("s", token, "us")]


# acceptance: 138 (a key that was sent and posted)
async def test_a_key_of_a_send_and_of_a_post_is_one_key(store: SessionStore) -> None:
    await store.create_session(session_id="s", agent="agent")
    hand = await Hand.of(store, "s", "us")
    await hand._write(hand.taking(UserSaid("hello"))._replace(send_key="sent"), [UserSaid("hello")])
    assert await store.post("s", UserSaid("hello"), key="sent", keyed=True) is False
    assert await store.post("s", UserSaid("more"), key="posted", keyed=True) is True
    assert [await store.send_of_key("s", key) for key in ("sent", "posted", "unknown")] == [1, 0, None]
    hand.head = await store.look("s")
    (item,) = await store.inbox("s")
    await hand.append(UserSaid("more", "follow_up"), heard=[item.item_id])
    assert await store.send_of_key("s", "posted") == 1


# --- the line ---------------------------------------------------------------------------------------


async def test_a_ticket_tells_whose_it_is_until_it_is_given_up(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    ticket = await store.queue_up("s", "them")
    assert await store.holder_of_ticket(ticket) == "them"
    assert await store.still_waiting(ticket) is True
    await store.leave_line(ticket)
    assert (await store.holder_of_ticket(ticket), await store.still_waiting(ticket)) == (None, False)


async def test_tickets_of_those_who_fell_silent_long_ago_are_swept_up(store: SessionStore) -> None:
    for name in ("s", "t", "u"):
        await store.create_session(session_id=name)
        await store.queue_up(name, "them")
    await store.database.write([Statement("UPDATE pl_waiters SET alive_until = 1 WHERE session_id <> 'u'")])
    await store.queue_up("s", "us")
    rows = "SELECT session_id, holder FROM pl_waiters ORDER BY session_id, holder"
    assert [(name, holder.partition("#")[0]) for name, holder in await store.database.read(rows)] == [
        ("s", "us"),
        ("t", "them"),
        ("u", "them"),
    ]
    await store.sweep_line()
    assert [name for name, _ in await store.database.read(rows)] == ["s", "u"]
