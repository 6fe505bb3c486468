"""What callers of a store learn when answers are lost again and again, and when somebody else is at work in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from power_loop import SessionNotFoundError, StoreSchemaError
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Database, Row, SchemaPolicy, Statement
from power_loop.store.memory import MemoryDatabase
from power_loop.store.migrate import bring_up
from power_loop.store.sql_store import SessionStore
from power_loop.testing import UnsureDatabase
from power_loop.testing.crash import over
from power_loop.testing.hand import Hand


class Troubled(UnsureDatabase):
    """Its first writes end as the list says, whether they were done (``done``) or not; then it is sound."""

    def __init__(self, inner: Database, *ends: Exception, done: bool = False) -> None:
        super().__init__(inner, 0)
        self.ends, self.done = list(ends), done
        self.before_read: Callable[[str], Awaitable[Any]] | None = None

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        if self.before_read is not None:
            await self.before_read(sql)
        return await super().read(sql, params)

    async def write(self, batch: Batch) -> None:
        if not self.ends:
            return await super().write(batch)
        if self.done:
            self.done = False
            await super().write(batch)
        raise self.ends.pop(0)


LOST, AWAY = CommitUnknown("the line was cut"), StoreUnavailable("nobody answers there")


@pytest.fixture
async def store() -> SessionStore:
    store = SessionStore(MemoryDatabase.with_schema("pl_"), MemoryDatabase.dialect)
    await store.create_session(session_id="s", metadata={"a": 1})
    return store


def troubled(store: SessionStore, *ends: Exception, done: bool = False) -> SessionStore:
    return over(store, Troubled(store.database, *ends, done=done))


@pytest.mark.parametrize("then", [LOST, AWAY], ids=["answers are lost", "the server is gone"])
async def test_a_change_that_could_be_neither_confirmed_nor_ruled_out_is_nobodys_guess(store: SessionStore, then: Exception) -> None:
    with pytest.raises(StoreUnavailable, match="nobody knows whether a batch was written, look before you repeat it"):
        await troubled(store, LOST, *[then] * 99).set_runtime_state("s", "n", 1)


async def test_a_change_that_was_refused_at_once_was_not_written(store: SessionStore) -> None:
    with pytest.raises(StoreUnavailable, match=r"^nobody answers there"):
        await troubled(store, AWAY).set_runtime_state("s", "n", 1)


async def test_metadata_whose_answer_was_lost_are_merged_with_what_somebody_added_meanwhile(store: SessionStore) -> None:
    unsure = UnsureDatabase(store.database, 1, "after")
    unsure.meanwhile = lambda: store.merge_session_metadata("s", {"theirs": 2})
    assert await over(store, unsure).merge_session_metadata("s", {"mine": 3}) == {"a": 1, "theirs": 2, "mine": 3}


async def test_a_batch_whose_answer_was_lost_is_found_by_reading_where_writes_are_refused_from_then_on(store: SessionStore) -> None:
    hand = await Hand.of(store, "s", "bob")
    await troubled(store, LOST, *[AWAY] * 99, done=True).append(hand.taking(UserSaid("hi")))
    assert (await store.look("s")).head == 1


async def test_a_session_that_goes_while_it_is_exported_is_not_found(store: SessionStore) -> None:
    await (await Hand.of(store, "s", "bob")).take(UserSaid("hi"))
    database = Troubled(store.database)

    async def gone(sql: str) -> None:
        if "records" in sql:
            await store.database.write([Statement("DELETE FROM pl_records"), Statement("DELETE FROM pl_sessions")])

    database.before_read = gone
    with pytest.raises(SessionNotFoundError):
        await over(store, database).export_session("s")


async def test_a_session_that_is_not_there_was_given_nothing(store: SessionStore) -> None:
    assert await store.session_ground("gone") == (None, None, None)


async def test_a_schema_that_others_change_again_and_again_is_given_up_by_name() -> None:
    database = Troubled(MemoryDatabase(), *[Conflict("somebody was faster")] * 99)
    with pytest.raises(StoreSchemaError, match=r"others changed the schema with prefix 'pl_' \d+ times"):
        await bring_up(database, MemoryDatabase.dialect, policy=SchemaPolicy.AUTO_CREATE)
