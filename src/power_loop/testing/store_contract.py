"""What every session store must keep, as a suite of tests: the log and its fence, the inbox, the line, sessions, small state.

Subclass `StoreContract` in a test file and give it a fixture ``store``: open, with our schema, otherwise empty. The
tests are coroutines named for their claim and need nothing but a runner for them.
"""

from __future__ import annotations

import asyncio
import json

from power_loop.contracts.children import GIVEN_UP
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    ContextFolded,
    ModelReplied,
    SendEnded,
    SendRested,
    SendResumed,
    StepChanged,
    ToolReturned,
    UserSaid,
)
from power_loop.contracts.rows import SessionStatus, SubagentLifecycle
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.sql_store import SessionStore
from power_loop.store.values import MUTATE_SKIP
from power_loop.testing.fence_contract import FenceContract
from power_loop.testing.hand import Hand, count_up, refused, texts
from power_loop.testing.invariants import check_invariants

TEXTS = {
    "empty": "",
    "every plane": "äß漢字\U0001f600\U0010ffff",
    "NUL": "a\0b",
    "a lone surrogate": "a\ud800b\udfff",
    "quotes": "'\"\\%s ? :x {p}",
    "a megabyte": "x€" * (1 << 19),
}


class StoreContract(FenceContract):
    """All claims."""

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
        for gone in ("gone", "no\0id", "lone \ud800"):
            for asked in (
                store.look(gone), store.get_session(gone), store.archive_session(gone), store.close_session(gone),
                store.update_session_prompt(gone, "x"), store.merge_session_metadata(gone, {"a": 1}), store.get_session_stats(gone),
                store.load_all_messages(gone),
            ):  # fmt: skip
                await refused(SessionNotFoundError, asked)
        for asked in (store.post("gone", UserSaid("x"), key="k"), store.queue_up("gone", "a")):
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
        await store.create_session(session_id="s")
        ticket = await store.queue_up("s", "a")
        # Signs of life grow old here, instead of time passing: a server asks its own clock, which nobody moves.
        older = f"UPDATE {store.table_prefix}waiters SET alive_until = alive_until - ?"
        for seconds, seen in ((2, ticket), (2, None), (-3600, None)):
            await store.database.write([Statement(older, (seconds * 1000,))])
            assert (await store.look("s")).first_ticket == seen, seconds
        await store.still_waiting(ticket)
        assert (await store.look("s")).first_ticket == ticket

    # --- sessions -------------------------------------------------------------------------------------------

    async def test_sessions_are_listed_by_what_is_asked_for(self, store: SessionStore) -> None:
        await store.create_session(session_id="a", metadata={"user": "u1"}, agent="x")
        await store.create_session(session_id="b", metadata={"user": "u2"}, agent="y")
        await store.archive_session("b")
        for found, ids in (
            (await store.list_sessions(metadata={"user": "u1"}), ["a"]),
            (await store.list_sessions(status=SessionStatus.ARCHIVED), ["b"]),
            (await store.list_sessions(agent="x"), ["a"]),
            (await store.list_sessions(before=0), []),
        ):
            assert [row.session_id for row in found] == ids
        assert len(await store.list_sessions(limit=1)) == 1
        await store.unarchive_session("b")
        assert (await store.get_session("b")).status == SessionStatus.ACTIVE

    async def test_metadata_is_merged_by_many_at_once_without_loss(self, store: SessionStore) -> None:
        await store.create_session(session_id="s", metadata={"old": 1, "gone": 1})
        await asyncio.gather(*(store.merge_session_metadata("s", {f"k{n}": n, "gone": None}) for n in range(8)))
        assert (await store.get_session("s")).metadata == {"old": 1, **{f"k{n}": n for n in range(8)}}

    async def test_closing_a_session_takes_its_tree_along_and_frees_what_is_detached(self, store: SessionStore) -> None:
        for child, parent in (("top", None), ("kid", "top"), ("grandkid", "kid"), ("free", "kid")):
            lifecycle = SubagentLifecycle.DETACHED if child == "free" else SubagentLifecycle.LINKED
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

    async def test_nobody_waits_for_a_sub_agent_once_its_call_is_answered(self, store: SessionStore) -> None:
        parent = await self.hand(store)
        await store.create_session(session_id="kid", parent_session_id="s", kind="subagent", spawn_tool_call_id="c1")
        await store.create_session(session_id="below", parent_session_id="kid", kind="subagent", spawn_tool_call_id="c1")
        await parent.take(UserSaid("hi"), ModelReplied("", (ToolCall("c1", "run_agent", "{}"),)))
        assert [await store.forsaken(one) for one in ("s", "kid", "below")] == [None, None, None]
        await parent.append(ToolReturned("c1", "<aborted>", "aborted"))
        assert [await store.forsaken(one) for one in ("s", "kid", "below")] == [None, "answered", "answered"]

    async def test_nobody_waits_for_a_leaf_while_its_workflow_has_given_it_up_or_is_over(self, store: SessionStore) -> None:
        await store.create_session(session_id="run", kind="workflow")
        await store.create_session(session_id="leaf", parent_session_id="run", kind="subagent")
        run, waits = await Hand.of(store, "run", "a"), StepChanged("a", {"state": "waiting", "session_id": "leaf"})
        given_up, said = StepChanged("a", {"state": "returned", "status": GIVEN_UP, "session_id": "leaf"}), list[str | None]()
        await run.take(UserSaid("go"))
        for record in (waits, given_up, waits, SendEnded("cancelled"), SendResumed()):
            await run.append(record)
            said.append(await store.forsaken("leaf"))
        assert said == [None, "stopped", None, "stopped", None]

    async def test_an_id_that_is_used_again_never_meets_its_old_epoch(self, store: SessionStore) -> None:
        late = await self.hand(store)
        await late.take(UserSaid("hi"))
        await store.close_session("s")
        await asyncio.sleep(0.002)
        await store.create_session(session_id="s")
        await refused(Conflict, late.append(ModelReplied("late")))
        assert await texts(store, "s") == []

    async def test_what_cannot_be_a_session_is_refused(self, store: SessionStore) -> None:
        for wrong in ("", "a b", "x" * 192, "ä", "a\n"):
            await refused(ValueError, store.create_session(session_id=wrong))
        await refused(ValueError, store.create_session(parent_session_id="gone"))
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
        assert (stats.sends, stats.rounds, stats.llm_calls) == (1, 1, 1)
        assert (stats.prompt_tokens, stats.completion_tokens, stats.total_tokens) == (3, 2, 5)
        assert await check_invariants(store) == []

    # --- small state --------------------------------------------------------------------------------------------

    async def test_a_stored_null_is_a_value(self, store: SessionStore) -> None:
        assert await store.get_runtime_state("s", "k", "default") == "default"
        await store.set_runtime_state("s", "k", None)
        assert await store.get_runtime_state("s", "k", "default") is None
        await store.delete_runtime_state("s", "k")
        assert await store.get_runtime_state("s", "k", "default") == "default"

    async def test_a_name_that_not_every_engine_could_keep_is_refused(self, store: SessionStore) -> None:
        for name in ("", "k" * 192, "with\0nul", "lone \ud800"):
            await refused(ValueError, store.set_runtime_state("s", name, 1))

    async def test_a_value_is_changed_by_many_at_once_without_loss(self, store: SessionStore) -> None:
        await asyncio.gather(*(count_up(store, "s") for _ in range(10)))
        assert await store.get_runtime_state("s", "n") == 10
        assert await store.mutate_runtime_state("s", "n", lambda _: MUTATE_SKIP) == 10

    async def test_a_value_of_every_kind_comes_back_as_it_was(self, store: SessionStore) -> None:
        for name, text in TEXTS.items():
            await store.set_shared_state("team", name, {"text": [text, 1.5, True, None]})
            assert await store.get_shared_state("team", name) == {"text": [text, 1.5, True, None]}
        await store.set_shared_state("Team", "NUL", 1)
        assert await store.get_shared_state("team", "NUL") != 1

    # --- large content ------------------------------------------------------------------------------------------

    async def test_large_content_is_kept_once_and_goes_with_its_session(self, store: SessionStore) -> None:
        for session_id in ("s", "S"):
            await store.create_session(session_id=session_id)
        data = bytes(range(256)) * 4096
        digest = await store.keep_blob("s", data)
        assert await store.keep_blob("s", data) == digest
        assert await store.read_blob("s", digest) == data
        assert await store.read_blob("S", digest) is None
        await store.close_session("s")
        assert await store.read_blob("s", digest) is None
