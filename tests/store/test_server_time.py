"""Servers decide by their own clock what has expired, whatever the clocks of their clients show."""

from __future__ import annotations

import engines
import pytest

from power_loop.contracts.clock import SystemClock
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Conflict
from power_loop.store.sql_store import SessionStore, open_store
from power_loop.testing.hand import Hand, refused

HOUR_MS = 3_600_000
TTL_MS = 30_000
# Between two looks at two clocks.
ABOUT_MS = 10_000


class WrongClock(SystemClock):
    """Real time, wrong by so many ms."""

    def __init__(self, wrong_ms: int) -> None:
        self.wrong_ms = wrong_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.wrong_ms


@pytest.fixture(params=engines.SERVERS)
async def right(request, tmp_path):
    """A store on a machine whose clock is right."""
    async with engines.cleared(request.param, tmp_path) as dsn:
        store = await open_store(dsn)
        await store.create_session(session_id="s")
        yield store
        await store.close()


@pytest.fixture(params=[-HOUR_MS, HOUR_MS], ids=["an hour behind", "an hour ahead"])
def wrong(request, right):
    """The same store on a machine whose clock is wrong."""
    return SessionStore(right.database, right.dialect, right.table_prefix, clock=WrongClock(request.param))


async def take(store, holder, *records, for_ms=TTL_MS):
    now = store.clock.now_ms()
    hand = await Hand.of(store, "s", holder)
    await hand.take(*records, until=now + for_ms, bound=now)
    return hand


# acceptance: 141 (a lease is live or dead by one clock)
async def test_a_live_lease_is_stolen_by_nobody_whose_clock_is_wrong(right, wrong):
    for holder, thief in ((right, wrong), (wrong, right)):
        hand = await take(holder, "a", UserSaid("hi"))
        assert (await thief.look("s")).held_at(thief.clock.now_ms())
        await refused(Conflict, take(thief, "b"))
        await holder.renew([("s", hand.head.epoch)], holder.clock.now_ms() + TTL_MS)
        await refused(Conflict, take(thief, "b"))
        await hand.release()


async def test_a_lease_that_ran_out_is_free_at_once_whatever_the_clocks_show(right, wrong):
    for holder, heir in ((right, wrong), (wrong, right)):
        await take(holder, f"{id(holder)}", UserSaid("hi"), for_ms=-1)
        assert not (await heir.look("s")).held_at(heir.clock.now_ms())
        await (await take(heir, "b")).release()


async def test_every_client_sees_a_lease_end_on_its_own_clock(right, wrong):
    for holder, other in ((right, wrong), (wrong, right)):
        hand = await take(holder, "a")
        left = (await other.look("s")).lease_until - other.clock.now_ms()
        assert abs(left - TTL_MS) < ABOUT_MS
        await hand.release()
        assert (await other.look("s")).lease_until == 0


async def test_a_follow_up_reaches_a_holder_whose_clock_is_wrong_only_while_its_lease_runs(right, wrong):
    for holder, poster in ((right, wrong), (wrong, right)):
        hand = await take(holder, "a")
        assert await poster.post("s", UserSaid("x"), key=f"live {id(holder)}", running=await poster.look("s"))
        hand.head = await holder.look("s")
        await hand.release()
        late = await take(holder, "a", for_ms=-1)
        await refused(Conflict, poster.post("s", UserSaid("x"), key=f"dead {id(holder)}", running=late.head))
        late.head = await holder.look("s")
        await late.release()


async def test_a_place_in_line_counts_for_holders_whose_clock_is_wrong(right, wrong):
    for waiter, holder in ((right, wrong), (wrong, right)):
        ticket = await waiter.queue_up("s", "w")
        assert (await holder.look("s")).first_ticket == ticket
        await waiter.still_waiting(ticket)
        assert (await holder.look("s")).first_ticket == ticket
        await waiter.leave_line(ticket)


async def test_what_may_be_heard_later_is_due_by_one_clock(right, wrong):
    for poster, hearer in ((right, wrong), (wrong, right)):
        now = poster.clock.now_ms()
        for key, not_before in (("past", now - 1), ("soon", now + TTL_MS)):
            await poster.post("s", UserSaid(key), key=f"{key} {id(poster)}", not_before=not_before)
        past, soon = (await hearer.inbox("s", due=False))[-2:]
        assert [item.key for item in await hearer.inbox("s")][-1] == past.key
        assert abs(soon.not_before - hearer.clock.now_ms() - TTL_MS) < ABOUT_MS


async def test_what_is_due_is_claimed_once_by_workers_whose_clocks_differ(right, wrong):
    for poster, first, second in ((right, wrong, right), (wrong, right, wrong)):
        await poster.post("s", UserSaid("x"), key=str(id(poster)))
        token, (standing,) = await first.claim("one", limit=5)
        assert (await second.claim("two", limit=5))[1] == []
        await first.settle(standing, token, due_in_ms=None)
        assert (await second.claim("two", limit=5))[1] == []


async def test_the_epoch_of_a_session_begins_by_the_servers_clock(right, wrong):
    await right.create_session(session_id="one")
    await wrong.create_session(session_id="two")
    assert abs((await right.look("one")).epoch - (await right.look("two")).epoch) < ABOUT_MS
