"""What every session store must keep, as a suite of tests: the log and its fence, the inbox, the line, sessions, small state.

Subclass `StoreContract` in a test file and give it a fixture ``store``: open, with our schema, otherwise empty. The
tests are coroutines named for their claim and need nothing but a runner for them.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial

from power_loop.contracts.errors import SessionNotFoundError, StoreUnavailable
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ContextFolded, ModelReplied, SendEnded, SendRested, ToolReturned, UserSaid
from power_loop.contracts.rows import SessionStatus, SubagentLifecycle
from power_loop.contracts.store import Conflict
from power_loop.store.sql_store import SessionStore
from power_loop.store.values import MUTATE_SKIP
from power_loop.testing.clock import ManualClock
from power_loop.testing.crash import UnsureDatabase, When, over
from power_loop.testing.hand import Hand, refused, texts
from power_loop.testing.invariants import check_invariants

TEXTS = {
    "empty": "",
    "every plane": "äß漢字\U0001f600\U0010ffff",
    "NUL": "a\0b",
    "a lone surrogate": "a\ud800b\udfff",
    "quotes": "'\"\\%s ? :x {p}",
    "a megabyte": "x€" * (1 << 19),
}
BOTH: tuple[When, When] = ("before", "after")


class StoreContract:
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
        await store.renew([("s", hand.head.epoch)], 5000)
        await refused(Conflict, rival.take(bound=2001))
        await rival.take(bound=5001)

    async def test_a_lease_is_renewed_under_its_own_epoch_only(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1000)
        await store.renew([("s", hand.head.epoch - 1), ("gone", 1)], 9000)
        assert (await store.look("s")).lease_until == 1000
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
            unsure.meanwhile = partial(_count_up, store, when)
            try:
                await _count_up(over(store, unsure), when)
            except StoreUnavailable as error:
                assert "nobody knows" in str(error)
            else:
                assert await store.get_runtime_state(when, "n") == 2

    # --- reading ------------------------------------------------------------------------------------

    async def test_text_of_every_kind_comes_back_as_it_was(self, store: SessionStore) -> None:
        for name, text in TEXTS.items():
            hand = await Hand.of(store, await store.create_session(metadata={"text": text}), "a")
            call = ToolCall("c1", "look", json.dumps({"text": text}))
            await hand.take(UserSaid(text, metadata={"text": text}), ModelReplied(text, (call,)))
            await hand.append(ToolReturned("c1", text, name="look", data={"text": text}), ModelReplied("", think=text))
            await hand.append(ContextFolded(2, text))
            await hand.release(SendEnded("completed", text))
            assert await hand.stored() == hand.written, name
            assert (await store.get_session(hand.head.session_id)).metadata == {"text": text}, name
            messages = await store.load_all_messages(hand.head.session_id)
            assert [message.content for message in messages] == [text, text, text, ""], name

    async def test_posted_text_of_every_kind_comes_back_as_it_was(self, store: SessionStore) -> None:
        await store.create_session(session_id="s")
        for name, text in TEXTS.items():
            await store.post("s", UserSaid(text), key=name)
        assert [item.record for item in await store.inbox("s")] == [UserSaid(text) for text in TEXTS.values()]

    async def test_a_later_reader_starts_where_it_stopped(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("1"), ModelReplied("2"))
        await hand.append(SendRested("interrupted"), UserSaid("4"))
        assert [row.seq for row in await store.rows("s", after=2)] == [3, 4]
        assert [row.seq for row in await store.rows("s", after=0, whole_from=4)] == [1, 2, 4]
        assert await store.rows("s", after=4) == []

    async def test_ids_differ_by_case(self, store: SessionStore) -> None:
        for session_id in ("s", "S"):
            await store.create_session(session_id=session_id)
            await (await Hand.of(store, session_id, "a")).take(UserSaid(session_id))
        assert [await texts(store, session_id) for session_id in ("s", "S")] == [["s"], ["S"]]

    async def test_an_unknown_session_is_said_to_be_unknown(self, store: SessionStore) -> None:
        for asked in (
            store.look("gone"), store.post("gone", UserSaid("x"), key="k"), store.queue_up("gone", "a"), store.get_session("gone"),
            store.archive_session("gone"), store.close_session("gone"), store.update_session_prompt("gone", "x"),
            store.merge_session_metadata("gone", {"a": 1}), store.get_session_stats("gone"), store.load_all_messages("gone"),
        ):  # fmt: skip
            await refused(SessionNotFoundError, asked)

    # --- the inbox --------------------------------------------------------------------------------------

    async def test_what_is_posted_waits_in_order_until_it_is_heard(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        for text in ("1", "2", "3"):
            assert await store.post("s", UserSaid(text), key=text)
        first, second, third = await store.inbox("s")
        assert (await store.look("s")).waiting
        hand.head = await store.look("s")
        await hand.take(UserSaid("1"), heard=(first.item_id, third.item_id))
        assert await store.inbox("s") == [second]
        await refused(Conflict, hand.append(UserSaid("again"), heard=(first.item_id,)))

    async def test_the_same_key_counts_once_and_only_in_its_session(self, store: SessionStore) -> None:
        for session_id in ("s", "t"):
            await store.create_session(session_id=session_id)
        posted = [await store.post(session_id, UserSaid("x"), key="k") for session_id in ("s", "s", "t")]
        assert posted == [True, False, True]
        at_once = await asyncio.gather(*(store.post("s", UserSaid("x"), key="K") for _ in range(5)))
        assert sorted(at_once) == [False] * 4 + [True]
        assert len(await store.inbox("s")) == 2

    async def test_a_post_for_a_holder_is_refused_once_the_holder_is_gone(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1 << 60)
        assert await store.post("s", UserSaid("x"), key="1", running=hand.head)
        hand.head = await store.look("s")
        await hand.release(SendEnded("completed"))
        await refused(Conflict, store.post("s", UserSaid("x"), key="2", running=hand.head))
        assert not await store.post("s", UserSaid("x"), key="1", running=hand.head), "its key is known all the same"

    async def test_a_post_for_a_holder_whose_lease_ended_is_refused(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"), until=1)
        await refused(Conflict, store.post("s", UserSaid("x"), key="1", running=await store.look("s")))

    # --- the line -----------------------------------------------------------------------------------------

    async def test_the_line_is_served_in_order_and_its_head_is_seen(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        first, second = [await store.queue_up("s", "same name") for _ in range(2)]
        assert first < second
        assert (await store.look("s")).first_ticket == first
        await refused(Conflict, hand.take(UserSaid("hi")))
        await store.leave_line(first)
        assert (await store.look("s")).first_ticket == second
        hand.head = await store.look("s")
        await hand.take(UserSaid("hi"), ticket=second)
        assert (await store.look("s")).first_ticket is None

    async def test_a_place_in_line_lasts_as_long_as_its_signs_of_life(self, store: SessionStore) -> None:
        clock = ManualClock()
        store = SessionStore(store.database, store.dialect, store.table_prefix, clock=clock)
        await store.create_session(session_id="s")
        ticket = await store.queue_up("s", "a")
        for moved, seen in ((2, ticket), (2, None), (-3600, None)):
            clock.jump(moved)
            assert (await store.look("s")).first_ticket == seen, moved
        await store.still_waiting(ticket)
        assert (await store.look("s")).first_ticket == ticket

    # --- sessions -------------------------------------------------------------------------------------------

    async def test_sessions_are_listed_by_what_is_asked_for(self, store: SessionStore) -> None:
        await store.create_session(session_id="a", metadata={"user": "u1"}, agent="x")
        await store.create_session(session_id="b", metadata={"user": "u2"}, agent="y")
        await store.archive_session("b")
        found = [
            await store.list_sessions(**asked)
            for asked in ({"metadata": {"user": "u1"}}, {"status": SessionStatus.ARCHIVED}, {"agent": "x"}, {"limit": 1}, {"before": 0})
        ]
        assert [[row.session_id for row in rows] for rows in found[:3]] == [["a"], ["b"], ["a"]]
        assert [len(rows) for rows in found] == [1, 1, 1, 1, 0]
        await store.unarchive_session("b")
        assert (await store.get_session("b")).status == SessionStatus.ACTIVE

    async def test_metadata_is_merged_by_many_at_once_without_loss(self, store: SessionStore) -> None:
        await store.create_session(session_id="s", metadata={"old": 1, "gone": 1})
        await asyncio.gather(*(store.merge_session_metadata("s", {f"k{n}": n, "gone": None}) for n in range(8)))
        assert (await store.get_session("s")).metadata == {"old": 1, **{f"k{n}": n for n in range(8)}}

    async def test_closing_a_session_takes_its_tree_along_and_frees_what_is_detached(self, store: SessionStore) -> None:
        for child, parent, lifecycle in (("top", None, None), ("kid", "top", None), ("grandkid", "kid", None), ("free", "kid", SubagentLifecycle.DETACHED)):
            await store.create_session(session_id=child, parent_session_id=parent, lifecycle=lifecycle)
        await (await Hand.of(store, "kid", "a")).take(UserSaid("x"))
        await store.post("kid", UserSaid("x"), key="k")
        assert await store.close_session("top") == 3
        assert [row.session_id for row in await store.list_sessions()] == ["free"]
        assert (await store.get_session("free")).parent_session_id is None
        assert await check_invariants(store) == []

    async def test_closing_without_cascade_makes_roots_of_the_children(self, store: SessionStore) -> None:
        await store.create_session(session_id="top")
        await store.create_session(session_id="kid", parent_session_id="top", kind="subagent")
        assert await store.close_session_tree("top", cascade=False) == ["top"]
        assert (await store.get_session("kid")).kind == "root"

    async def test_an_id_that_is_used_again_never_meets_its_old_epoch(self, store: SessionStore) -> None:
        late = await self.hand(store)
        await late.take(UserSaid("hi"))
        await store.close_session("s")
        await asyncio.sleep(0.002)
        await store.create_session(session_id="s")
        await refused(Conflict, late.append(ModelReplied("late")))
        assert await texts(store, "s") == []

    async def test_what_cannot_be_a_session_is_refused(self, store: SessionStore) -> None:
        for wrong in ({"session_id": ""}, {"session_id": "a b"}, {"session_id": "x" * 192}, {"parent_session_id": "gone"}):
            await refused(ValueError, store.create_session(**wrong))
        await store.create_session(session_id="d0")
        for depth in range(store.max_spawn_depth):
            await store.create_session(session_id=f"d{depth + 1}", parent_session_id=f"d{depth}")
        await refused(ValueError, store.create_session(parent_session_id=f"d{store.max_spawn_depth}"))

    async def test_counters_stand_in_the_batch_of_what_they_count(self, store: SessionStore) -> None:
        hand = await self.hand(store)
        await hand.take(UserSaid("hi"))
        assert await store.get_session_stats("s") is None
        await hand.release(ModelReplied("hello", usage=hand.paid(3, 2)), SendEnded("completed"))
        stats = await store.get_session_stats("s")
        assert stats is not None
        assert (stats.sends, stats.rounds, stats.llm_calls, stats.prompt_tokens, stats.completion_tokens, stats.total_tokens) == (1, 1, 1, 3, 2, 5)
        assert await check_invariants(store) == []

    # --- small state --------------------------------------------------------------------------------------------

    async def test_a_stored_null_is_a_value(self, store: SessionStore) -> None:
        assert await store.get_runtime_state("s", "k", "default") == "default"
        await store.set_runtime_state("s", "k", None)
        assert await store.get_runtime_state("s", "k", "default") is None
        await store.delete_runtime_state("s", "k")
        assert await store.get_runtime_state("s", "k", "default") == "default"

    async def test_a_value_is_changed_by_many_at_once_without_loss(self, store: SessionStore) -> None:
        await asyncio.gather(*(_count_up(store, "s") for _ in range(10)))
        assert await store.get_runtime_state("s", "n") == 10
        assert await store.mutate_runtime_state("s", "n", lambda _: MUTATE_SKIP) == 10

    async def test_a_value_of_every_kind_comes_back_as_it_was(self, store: SessionStore) -> None:
        for name, text in TEXTS.items():
            await store.set_shared_state("team", name, {"text": [text, 1.5, True, None]})
            assert await store.get_shared_state("team", name) == {"text": [text, 1.5, True, None]}
        await store.set_shared_state("Team", "NUL", 1)
        assert await store.get_shared_state("team", "NUL") != 1

    # --- words of the suite -----------------------------------------------------------------------------------------

    async def hand(self, store: SessionStore) -> Hand:
        """The hand of holder ``a`` on the new session ``s``."""
        await store.create_session(session_id="s")
        return await Hand.of(store, "s", "a")


async def _count_up(store: SessionStore, owner: str) -> int:
    return await store.mutate_runtime_state(owner, "n", lambda n: (n or 0) + 1)
