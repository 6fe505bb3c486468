"""The half of the store contract that is about one writer: the fence of the log, and COMMITs whose answer was lost."""

from __future__ import annotations

import asyncio
from functools import partial

from power_loop.contracts.errors import SessionLeaseLost, StoreUnavailable
from power_loop.contracts.records import ModelReplied, SendEnded, UserSaid
from power_loop.contracts.store import Conflict, Post
from power_loop.store.sql_store import SessionStore
from power_loop.testing.crash import UnsureDatabase, When, over
from power_loop.testing.hand import Hand, count_up, refused, texts

BOTH: tuple[When, When] = ("before", "after")


class FenceContract:
    """The claims."""

    # --- the fence --------------------------------------------------------------------------------

    # acceptance: 115 (the lease of the store)
    async def test_of_two_takes_at_once_one_writes(self, store: SessionStore) -> None:
        await store.create_session(session_id="s")
        one, two = await Hand.of(store, "s", "one"), await Hand.of(store, "s", "two")
        outcomes = await asyncio.gather(one.take(UserSaid("1")), two.take(UserSaid("2")), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]
        assert len(await texts(store, "s")) == 1
        assert (await store.look("s")).holder in ("one", "two")

    async def test_a_take_raises_the_epoch_and_writes_its_records_with_it(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        before = (await store.look("s")).epoch
        await hand.take(UserSaid("hi"))
        head = await store.look("s")
        assert (head.epoch, head.head, head.holder, head.send_index, head.send_seq) == (before + 1, 1, "a", 1, 1)
        assert [row.epoch for row in await store.rows("s", after=0)] == [head.epoch]

    async def test_a_holder_that_was_taken_over_writes_nothing_more(self, store: SessionStore) -> None:
        late = await self.hand(store)
        await late.take(UserSaid("hi"))
        rival = await Hand.of(store, "s", "rival")
        await rival.take(SendEnded("interrupted"))
        await refused(Conflict, late.append(ModelReplied("late")))
        await refused(Conflict, late.release(SendEnded("completed")))
        assert await texts(store, "s") == ["hi"]
        assert (await store.look("s")).holder == "rival"

    async def test_a_take_without_records_fences_as_well(self, store: SessionStore) -> None:
        late = await self.hand(store)
        await late.take(UserSaid("hi"))
        await (await Hand.of(store, "s", "rival")).take()
        await refused(Conflict, late.append(ModelReplied("late")))
        await refused(Conflict, late.release())

    async def test_a_take_respects_a_lease_that_came_back_to_life(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1000)
        rival = await Hand.of(store, "s", "rival")
        await store.renew([("s", hand.head.epoch)], 50_000)
        await refused(Conflict, rival.take(bound=20_000))
        await rival.take(bound=80_000)

    async def test_a_lease_is_renewed_under_its_own_epoch_only(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1000)
        await store.renew([("s", hand.head.epoch - 1), ("gone", 1)], 9000)
        assert (await store.look("s")).lease_until < 5000
        await hand.release(SendEnded("completed"))
        await store.renew([("s", hand.head.epoch)], 9000)
        assert (await store.look("s")).lease_until == 0

    async def test_a_post_in_between_refuses_the_next_batch_whatever_it_is(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"))
        for write in (hand.append, hand.release):
            await store.post("s", UserSaid("wait"), key=write.__name__)
            await refused(Conflict, write(SendEnded("completed")))
            hand.head = await store.look("s")
        await hand.release(SendEnded("completed"))

    async def test_a_batch_that_is_sent_twice_is_written_once(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        batch = hand.taking(UserSaid("hi"))
        await store.append(batch)
        await refused(Conflict, store.append(batch))
        assert await texts(store, "s") == ["hi"]

    async def test_what_a_refused_batch_would_have_heard_still_waits(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await store.post("s", UserSaid("a"), key="a")
        (item,) = await store.inbox("s")
        hand.head = await store.look("s")
        rival = await Hand.of(store, "s", "rival")
        await rival.take(UserSaid("b"))
        await refused(Conflict, hand.take(UserSaid("a"), heard=(item.item_id,)))
        assert await store.inbox("s") == [item]

    async def test_words_for_other_sessions_are_there_with_the_batch_that_leaves_them_or_not_at_all(self, store: SessionStore) -> None:
        for session in ("a", "z"):
            await store.create_session(session_id=session)
        hand = await self.hand(store)
        posts = [Post(session, f"{session}:{len(word)}", word) for session in ("z", "s", "gone", "a") for word in ("one", "z\x00two")]
        batch = hand.taking(UserSaid("hi"))._replace(posts=posts)
        await store.append(batch)
        await refused(Conflict, store.append(batch))
        for session in ("a", "s", "z"):
            waiting = [(item.key, item.record) for item in await store.inbox(session)]
            assert waiting == [(post.key, UserSaid(post.text)) for post in posts if post.session_id == session]
        assert (await store.look("a")).wake_no > 0 < (await store.look("s")).wake_no
        hand.head = await store.look("s")
        await hand.append(ModelReplied("hello"), posts=posts)
        assert [len(await store.inbox(session)) for session in ("a", "s", "z")] == [2, 2, 2]

    async def test_who_was_taken_over_begins_no_child_of_the_session_any_more(self, store: SessionStore) -> None:
        late = await self.hand(store)
        await late.take(UserSaid("hi"))
        epoch = (await store.look("s")).epoch
        assert await store.create_session(session_id="in_time", parent_session_id="s", parent_epoch=epoch) == "in_time"
        await refused(ValueError, store.create_session(session_id="in_time", parent_session_id="s", parent_epoch=epoch))
        await (await Hand.of(store, "s", "rival")).take()
        await refused(SessionLeaseLost, store.create_session(session_id="late", parent_session_id="s", parent_epoch=epoch))
        assert [row.session_id for row in await store.list_children("s")] == ["in_time"]

    # --- a COMMIT whose answer was lost -----------------------------------------------------------

    # acceptance: 185 (unknown COMMIT resolved, both ways)
    async def test_an_append_whose_commit_raised_is_there_once(self, store: SessionStore) -> None:
        for when in BOTH:
            session = await store.create_session()
            hand = await Hand.of(over(store, UnsureDatabase(store.database, 2, when)), session, "a")
            await hand.take(UserSaid("hi"))
            await hand.append(ModelReplied("hello"))
            await hand.release(SendEnded("completed"))
            assert await texts(store, session) == ["hi", "hello"]

    async def test_a_take_whose_commit_raised_is_not_mistaken_for_a_rivals(self, store: SessionStore) -> None:
        for when in BOTH:
            session = await store.create_session()
            unsure = UnsureDatabase(store.database, 1, when)
            rival = await Hand.of(store, session, "rival")
            unsure.meanwhile = partial(rival.take_if_free, UserSaid("hi"))
            hand = await Hand.of(over(store, unsure), session, "a")
            outcome = await asyncio.gather(hand.take(UserSaid("hi")), return_exceptions=True)
            assert [type(each).__name__ for each in outcome] == [{"before": "Conflict", "after": "NoneType"}[when]]
            assert (await store.look(session)).holder == {"before": "rival", "after": "a"}[when]
            assert await texts(store, session) == ["hi"]

    async def test_a_batch_without_records_whose_commit_raised_is_recognised(self, store: SessionStore) -> None:
        for when in BOTH:
            session = await store.create_session()
            hand = await Hand.of(over(store, UnsureDatabase(store.database, 2, when)), session, "a")
            await hand.take(UserSaid("hi"))
            await hand.release()
            assert (await store.look(session)).holder is None

    async def test_a_post_whose_commit_raised_waits_once(self, store: SessionStore) -> None:
        for when in BOTH:
            session = await store.create_session()
            assert await over(store, UnsureDatabase(store.database, 1, when)).post(session, UserSaid("a"), key="a")
            assert [item.key for item in await store.inbox(session)] == ["a"]

    async def test_a_post_that_was_not_written_is_not_acknowledged_once_its_holder_is_gone(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1 << 60)
        running = await store.look("s")
        unsure = UnsureDatabase(store.database, 1, "before")
        unsure.meanwhile = partial(hand.release, SendEnded("completed"))
        await refused(Conflict, over(store, unsure).post("s", UserSaid("a"), key="a", running=running))
        assert await store.inbox("s") == []

    async def test_a_session_whose_creation_raised_is_created_once(self, store: SessionStore) -> None:
        for when in BOTH:
            assert await over(store, UnsureDatabase(store.database, 1, when)).create_session(session_id=when) == when
        await refused(ValueError, store.create_session(session_id="after"))

    async def test_a_value_whose_commit_raised_loses_nobodys_change(self, store: SessionStore) -> None:
        for when in BOTH:
            await store.set_runtime_state(when, "n", 0)
            unsure = UnsureDatabase(store.database, 1, when)
            unsure.meanwhile = partial(count_up, store, when)
            try:
                await count_up(over(store, unsure), when)
            except StoreUnavailable:
                continue  # the caller was told that nobody knows
            assert await store.get_runtime_state(when, "n") == 2

    # --- words of the suite ----------------------------------------------------------------------

    async def hand(self, store: SessionStore) -> Hand:
        """The hand of holder ``a`` on the new session ``s``."""
        await store.create_session(session_id="s")
        return await Hand.of(store, "s", "a")
