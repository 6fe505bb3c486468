"""What every engine behind the two verbs must keep, as a suite of tests.

Subclass `DatabaseContract` in a test file and give it a fixture ``database``: open, with our schema, otherwise
empty. The tests are coroutines named for their claim and need nothing but a runner for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Conflict, Database, Statement


class DatabaseContract:
    """The claims. ``prefix`` is the one that the fixture's schema was made with."""

    prefix = "pl_"

    # --- a batch is all or nothing ---------------------------------------------------------------

    async def test_a_batch_is_read_back_whole(self, database: Database) -> None:
        await database.write([self.put("a", "1"), self.put("b", "2")])
        assert await self.values(database) == {"a": "1", "b": "2"}

    async def test_rows_are_tuples_in_a_list(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        rows = await database.read(f"SELECT state_key, value FROM {self.prefix}state WHERE state_key = ?", ("a",))
        assert rows == [("a", "1")]
        assert type(rows) is list
        assert type(rows[0]) is tuple

    async def test_an_empty_batch_is_written_without_a_word(self, database: Database) -> None:
        await database.write([])

    async def test_a_guard_that_does_not_hold_leaves_nothing_of_its_batch(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        await refused(Conflict, database.write([self.put("b", "2"), self.change("a", "3", version=7), self.put("c", "4")]))
        assert await self.values(database) == {"a": "1"}

    async def test_a_key_that_exists_is_a_conflict_and_leaves_nothing(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        await refused(Conflict, database.write([self.put("b", "2"), self.put("a", "3")]))
        assert await self.values(database) == {"a": "1"}

    async def test_a_guard_counts_the_rows_found_also_when_they_do_not_change(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        same = f"UPDATE {self.prefix}state SET value = value WHERE state_key = ?"
        await database.write([Statement(same, ("a",), 1)])
        await refused(Conflict, database.write([Statement(same, ("b",), 1)]))

    async def test_a_guard_may_ask_for_no_row_at_all(self, database: Database) -> None:
        gone = Statement(f"DELETE FROM {self.prefix}state WHERE state_key = ?", ("a",), 0)
        await database.write([gone, self.put("a", "1")])
        await refused(Conflict, database.write([gone]))
        assert await self.values(database) == {"a": "1"}

    async def test_a_statement_without_a_guard_may_touch_any_number(self, database: Database) -> None:
        await database.write([self.put("a", "1"), self.put("b", "2")])
        await database.write([Statement(f"UPDATE {self.prefix}state SET value = ?", ("3",))])
        assert await self.values(database) == {"a": "3", "b": "3"}

    async def test_a_statement_that_the_database_refuses_leaves_nothing_and_the_next_one_works(self, database: Database) -> None:
        await refused(StoreUnavailable, database.write([self.put("a", "1"), Statement("UPDATE no_such_table SET x = 1")]))
        await refused(StoreUnavailable, database.read("SELECT x FROM no_such_table"))
        assert await self.values(database) == {}
        await database.write([self.put("a", "1")])
        assert await self.values(database) == {"a": "1"}

    async def test_a_value_that_cannot_be_bound_leaves_nothing_and_the_next_one_works(self, database: Database) -> None:
        await refused(Exception, database.write([self.put("a", "1"), self.put("b", object())]))
        assert await self.values(database) == {}
        await database.write([self.put("a", "1")])

    # --- values ---------------------------------------------------------------------------------------

    async def test_text_of_every_plane_and_length_comes_back_as_it_was(self, database: Database) -> None:
        texts = {"empty": "", "blank": "  a  ", "planes": "äß漢字\U0001f600\U0010ffff", "quotes": "'\"\\%s ? :x", "long": "x" * (1 << 20)}
        await database.write([self.put(key, text) for key, text in texts.items()])
        assert await self.values(database) == texts

    async def test_text_that_has_no_utf_8_is_found_nowhere_and_never_written(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        found = f"SELECT value FROM {self.prefix}state WHERE state_key = ?"
        assert await database.read(found, ("a\ud800",)) == []
        assert await database.read(found + " OR state_key = ?", ("a\udcff", "a")) == [("1",)]
        await refused(ValueError, database.write([self.put("b", "2"), self.put("b\ud800", "3")]))
        assert await self.values(database) == {"a": "1"}

    async def test_numbers_of_64_bits_and_none_come_back_as_they_were(self, database: Database) -> None:
        await database.write([self.put("most", None, version=2**63 - 1), self.put("least", None, version=-(2**63))])
        rows = await database.read(f"SELECT version, value FROM {self.prefix}state ORDER BY version")
        assert rows == [(-(2**63), None), (2**63 - 1, None)]

    async def test_bytes_and_fractions_come_back_as_they_were(self, database: Database) -> None:
        data = bytes(range(256)) * 1000
        columns = "session_id, digest, data, size, media_type, created_at"
        await database.write(
            [Statement(f"INSERT INTO {self.prefix}blobs ({columns}) VALUES (?, ?, ?, ?, ?, ?)", ("s", "d", data, len(data), None, 0))]
        )
        ((back,),) = await database.read(f"SELECT data FROM {self.prefix}blobs WHERE session_id = ?", ("s",))
        assert bytes(back) == data
        await database.write([Statement(f"INSERT INTO {self.prefix}sessions (session_id, cost) VALUES (?, ?)", ("s", 0.1))])
        assert await database.read(f"SELECT cost FROM {self.prefix}sessions") == [(0.1,)]

    async def test_keys_differ_by_case_and_trailing_blanks(self, database: Database) -> None:
        keys = {"a": "1", "A": "2", "a ": "3", "ä": "4"}
        await database.write([self.put(key, value) for key, value in keys.items()])
        assert await self.values(database) == keys

    async def test_question_marks_and_per_cent_signs_in_quotes_stay_what_they_are(self, database: Database) -> None:
        sql = "SELECT '?', '100%', '%s', ? "
        assert await database.read(sql, ("x",)) == [("?", "100%", "%s", "x")]

    async def test_numbers_that_are_counted_up_are_never_given_out_twice(self, database: Database) -> None:
        stand = Statement(f"INSERT INTO {self.prefix}waiters (session_id, holder, alive_until) VALUES (?, ?, ?)", ("s", "h", 0), 1)
        highest = f"SELECT max(ticket) FROM {self.prefix}waiters"
        await database.write([stand])
        first = (await database.read(highest))[0][0]
        await database.write([Statement(f"DELETE FROM {self.prefix}waiters", (), 1)])
        await database.write([stand])
        assert (await database.read(highest))[0][0] > first

    # --- many at once -----------------------------------------------------------------------------------

    async def test_a_read_sees_what_was_submitted_before_it(self, database: Database) -> None:
        write = database.write([self.put("a", "1")])
        assert await self.values(database) == {"a": "1"}
        await write

    async def test_of_many_batches_at_once_only_the_bad_ones_fail(self, database: Database) -> None:
        await database.write([self.put("taken", "0")])
        bad = {
            1: [self.put("taken", "1")],
            2: [Statement("INSERT INTO no_such_table VALUES (1)")],
            3: [self.change("taken", "2", version=9)],
        }
        batches = [[self.put(f"k{n}", "x"), *bad.get(n % 5, [])] for n in range(60)]
        outcomes = await asyncio.gather(*(database.write(batch) for batch in batches), return_exceptions=True)
        expected = [{1: Conflict, 2: StoreUnavailable, 3: Conflict}.get(n % 5) for n in range(60)]
        assert [None if outcome is None else type(outcome) for outcome in outcomes] == expected
        assert set(await self.values(database)) == {"taken", *(f"k{n}" for n in range(60) if n % 5 not in bad)}

    async def test_compare_and_set_loses_no_update(self, database: Database) -> None:
        await database.write([self.put("n", "0")])
        await asyncio.gather(*(self.count_up(database, 10) for _ in range(10)))
        assert await self.values(database) == {"n": "100"}

    async def test_several_threads_with_event_loops_of_their_own_share_it(self, database: Database) -> None:
        await database.write([self.put("n", "0")])
        await asyncio.gather(self.count_up(database, 20), *(in_a_thread(lambda: self.count_up(database, 20)) for _ in range(3)))
        assert await self.values(database) == {"n": "80"}

    async def test_an_event_loop_that_is_closed_in_the_middle_harms_nobody(self, database: Database) -> None:
        async def leave() -> None:
            loop = asyncio.get_running_loop()
            for n in range(20):
                database.write([self.put(f"left{n}", "x")])
            loop.stop()

        def abandoned() -> None:
            loop = asyncio.new_event_loop()
            loop.create_task(leave())
            loop.run_forever()
            loop.close()

        await asyncio.to_thread(abandoned)
        await database.write([self.put("a", "1")])
        assert "a" in await self.values(database)

    # --- cancelling ---------------------------------------------------------------------------------------

    # acceptance: 39
    async def test_who_is_cancelled_in_a_write_has_written_or_is_told_why_not(self, database: Database) -> None:
        await database.write([self.put("taken", "0")])
        for steps in range(6):
            key, learned = f"k{steps}", asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self.write_and_look_back(database, [self.put(key, "x")], learned))
            clash = asyncio.create_task(self.write_and_look_back(database, [self.put("taken", "x")], None))
            await self.cancel_after(steps, task, clash)
            if learned.done():
                assert (key in await self.values(database)) == learned.result()
        await database.write([self.put("end", "x")])
        assert (await self.values(database))["taken"] == "0"

    # acceptance: 39
    async def test_who_is_cancelled_in_a_read_harms_nobody(self, database: Database) -> None:
        for steps in range(6):

            async def look() -> None:
                await database.read(f"SELECT count(*) FROM {self.prefix}state")

            await self.cancel_after(steps, asyncio.create_task(look()))
        await database.write([self.put("a", "1")])
        assert await self.values(database) == {"a": "1"}

    async def test_a_time_limit_waits_for_the_outcome(self, database: Database) -> None:
        try:
            async with asyncio.timeout(0):
                await database.write([self.put("a", "1")])
        except TimeoutError:
            pass
        assert await self.values(database) in ({}, {"a": "1"})
        await database.write([self.put("b", "2")])

    # --- closing -------------------------------------------------------------------------------------------

    async def test_closing_finishes_what_was_submitted_and_refuses_the_rest(self, database: Database) -> None:
        writes = [database.write([self.put(f"k{n}", "x")]) for n in range(20)]
        await database.close()
        for write in writes:
            await write
        await refused(StoreUnavailable, database.write([self.put("late", "x")]))
        await refused(StoreUnavailable, database.read("SELECT 1"))

    async def test_closing_twice_or_at_once_is_closing(self, database: Database) -> None:
        await database.write([self.put("a", "1")])
        await asyncio.gather(database.close(), database.close())
        await database.close()

    # --- words of the suite -----------------------------------------------------------------------------

    def put(self, key: str, value: object, *, version: int = 0) -> Statement:
        columns = "owner, state_key, value, version, created_at, updated_at"
        return Statement(f"INSERT INTO {self.prefix}state ({columns}) VALUES (?, ?, ?, ?, ?, ?)", ("o", key, value, version, 0, 0), 1)

    def change(self, key: str, value: str, *, version: int) -> Statement:
        sql = f"UPDATE {self.prefix}state SET value = ?, version = version + 1 WHERE owner = ? AND state_key = ? AND version = ?"
        return Statement(sql, (value, "o", key, version), 1)

    async def values(self, database: Database) -> dict[str, str]:
        return dict(await database.read(f"SELECT state_key, value FROM {self.prefix}state"))

    async def count_up(self, database: Database, times: int) -> None:
        """Add one to the number under "n", ``times`` times, by compare-and-set."""
        done = 0
        while done < times:
            ((value, version),) = await database.read(f"SELECT value, version FROM {self.prefix}state WHERE state_key = ?", ("n",))
            try:
                await database.write([self.change("n", str(int(value) + 1), version=version)])
            except Conflict:
                continue
            done += 1

    async def write_and_look_back(self, database: Database, batch: list[Statement], learned: asyncio.Future[bool] | None) -> None:
        write = asyncio.ensure_future(database.write(batch))
        try:
            await write
        except Conflict:
            pass
        finally:
            assert write.done(), "a waiter was cancelled before its outcome was known"
            if learned is not None:
                learned.set_result(write.exception() is None)

    async def cancel_after(self, steps: int, *tasks: asyncio.Task[None]) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused(kind: type[Exception], work: Awaitable[object]) -> None:
    """``work`` must raise exactly that kind of error, or one below it."""
    try:
        await work
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


async def in_a_thread(work: Callable[[], Awaitable[None]]) -> None:
    """Run it in a thread with an event loop of its own."""

    async def run() -> None:
        await work()

    await asyncio.to_thread(lambda: asyncio.run(run()))
