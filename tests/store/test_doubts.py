"""What a store does about the rarer doubts: answers that were lost twice, places in the line that are gone, odd settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from power_loop import SchemaPolicy, SessionNotFoundError, StoreSchemaError, open_store
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Database, Row, Statement
from power_loop.store.boards import SqliteBlackboard
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.testing.crash import UnsureDatabase, When, over
from power_loop.testing.hand import Hand


class Lossy(UnsureDatabase):
    """Every COMMIT from the ``at``-th on, ``times`` times, is one of which nobody knows; nothing is written by those."""

    def __init__(self, inner: Database, times: int) -> None:
        super().__init__(inner, 0, "before")
        self.times = times

    async def write(self, batch: Batch) -> None:
        if self.times:
            self.times -= 1
            raise CommitUnknown("nobody knows")
        await super().write(batch)


@pytest.fixture
async def store() -> SessionStore:
    database = MemoryDatabase.with_schema("pl_")
    return SessionStore(database, MemoryDatabase.dialect)


async def test_a_depth_of_sessions_below_one_is_refused(store: SessionStore) -> None:
    with pytest.raises(ValueError, match="max_spawn_depth is 0; it must be at least 1"):
        SessionStore(store.database, store.dialect, max_spawn_depth=0)


async def test_a_policy_is_known_by_its_name_and_by_its_value() -> None:
    assert SchemaPolicy("VERIFY") is SchemaPolicy("verify") is SchemaPolicy.VERIFY
    await (await open_store(schema="AUTO_CREATE")).close()
    with pytest.raises(ValueError, match="'auto_create' or 'verify'"):
        await open_store(schema="Verify")


async def test_the_older_word_for_the_schema_still_works_and_says_what_to_use() -> None:
    with pytest.warns(DeprecationWarning, match="schema='auto_create' or schema='verify'"):
        await (await open_store(":memory:", create_schema=True)).close()
    with pytest.warns(DeprecationWarning, match="create_schema"), pytest.raises(StoreSchemaError):
        await open_store(":memory:", create_schema=False)


async def test_a_value_whose_commit_was_lost_is_written_once(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    await store.set_runtime_state("s", "n", 1)
    unsure = over(store, UnsureDatabase(store.database, 1, "after"))
    assert await unsure.mutate_runtime_state("s", "n", lambda n: n + 1) == 2
    lossy = over(store, Lossy(store.database, 1))
    assert await lossy.mutate_runtime_state("s", "n", lambda n: n + 1) == 3
    assert await store.get_runtime_state("s", "n") == 3


async def test_a_value_that_somebody_changed_while_a_commit_was_lost_is_nobodys_guess(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    await store.set_runtime_state("s", "n", 1)
    unsure = UnsureDatabase(store.database, 1, "before")
    unsure.meanwhile = lambda: store.set_runtime_state("s", "n", 40)
    with pytest.raises(StoreUnavailable):
        await over(store, unsure).mutate_runtime_state("s", "n", lambda n: n + 1)
    assert await store.get_runtime_state("s", "n") == 40


async def test_whoever_faster_changed_a_value_is_built_upon(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    seen: list[int] = []

    def add(value: int) -> int:
        seen.append(value)
        return value + 1

    class Slow(UnsureDatabase):
        async def write(self, batch: Batch) -> None:
            if len(seen) == 1:
                await store.set_runtime_state("s", "n", 10)
            await super().write(batch)

    assert await over(store, Slow(store.database, 0)).mutate_runtime_state("s", "n", add, default=0) == 11
    assert seen == [0, 10]


async def test_a_ticket_that_was_swept_up_at_once_is_taken_again(store: SessionStore) -> None:
    await store.create_session(session_id="s")

    class Sweeping(UnsureDatabase):
        async def write(self, batch: Batch) -> None:
            await super().write(batch)
            if self.commits == 1:  # somebody whose clock runs ahead sweeps
                await self._inner.write([Statement("DELETE FROM pl_waiters", ())])

    assert await over(store, Sweeping(store.database, 0)).queue_up("s", "bob") > 0


async def test_who_queues_up_for_a_session_that_goes_meanwhile_is_told(store: SessionStore) -> None:
    await store.create_session(session_id="s")

    class Deleting(UnsureDatabase):
        async def write(self, batch: Batch) -> None:
            await super().write(batch)
            await self._inner.write([Statement("DELETE FROM pl_waiters", ()), Statement("DELETE FROM pl_sessions", ())])

    with pytest.raises(SessionNotFoundError):
        await over(store, Deleting(store.database, 0)).queue_up("s", "bob")


async def test_a_batch_that_was_lost_again_and_again_was_not_written(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    hand = await Hand.of(store, "s", "bob")
    with pytest.raises(StoreUnavailable):
        await over(store, Lossy(store.database, 1000)).append(hand.taking(UserSaid("hi")))
    assert (await store.look("s")).head == 0


async def test_the_whole_text_of_a_result_that_is_not_there_is_nothing(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    assert await store.load_output("s", "nobody") is None


def board(store: SessionStore, database: Database | None = None) -> SqliteBlackboard:
    return SqliteBlackboard(over(store, database or store.database))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_board_is_changed_once_although_a_commit_was_lost_and_somebody_else_was_faster(store: SessionStore, when: When) -> None:
    theirs, first = board(store), await board(store).post("b", "one")

    def doubted() -> SqliteBlackboard:
        unsure = UnsureDatabase(store.database, 1, when)
        unsure.meanwhile = lambda: theirs.post("b", "theirs")
        return board(store, unsure)

    mine = await doubted().post("b", "two")
    await doubted().update("b", first.id, text="changed")
    assert await doubted().remove("b", mine.id)
    assert sorted(entry.text for entry in await theirs.read("b")) == ["changed", "theirs", "theirs", "theirs"]


async def test_an_entry_that_somebody_changed_while_a_commit_was_lost_is_changed_again(store: SessionStore) -> None:
    theirs, first = board(store), await board(store).post("b", "one", status="open")
    unsure = UnsureDatabase(store.database, 1, "before")
    unsure.meanwhile = lambda: theirs.update("b", first.id, status="done")
    entry = await board(store, unsure).update("b", first.id, text="changed")
    assert (entry.text, entry.status) == ("changed", "done")


class Silenced(UnsureDatabase):
    """The answer of the first COMMIT is lost; once the repetition met its rows, nobody answers any more."""

    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except Conflict:
            self.silent = True
            raise

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        if getattr(self, "silent", False):
            raise StoreUnavailable("no answer came in time; nothing was read")
        return await super().read(sql, params)


async def test_a_batch_that_may_be_there_is_not_said_to_be_unwritten_when_nobody_can_be_asked(store: SessionStore) -> None:
    await store.create_session(session_id="s")
    hand = await Hand.of(over(store, Silenced(store.database, 1, "after")), "s", "a")
    with pytest.raises(StoreUnavailable, match="nobody knows whether a batch of session 's' was written, look before you repeat it"):
        await hand.take(UserSaid("hello"))
