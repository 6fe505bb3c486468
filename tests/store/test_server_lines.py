"""The connections to a server, whatever its engine: who is served in which order, and what becomes of those that nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Batch, Row, Statement
from power_loop.store.server import Close, ServerDatabase

MINUTE_S = 61.0


class Exchange:
    """A server that keeps texts. Work takes as many steps of the event loop as its text is long; "together" waits for its like."""

    def __init__(self) -> None:
        self.lines: list[FakeLine] = []
        self.kept: list[str] = []
        self.asked: list[str] = []
        self.together = asyncio.Barrier(1)
        self.loop: asyncio.AbstractEventLoop | None = None

    def new_line(self) -> FakeLine:
        self.lines.append(FakeLine(self))
        return self.lines[-1]

    async def work(self, text: str) -> None:
        self.asked.append(text)
        self.loop = asyncio.get_running_loop()
        for _ in text:
            await asyncio.sleep(0)
        if text == "together":
            await self.together.wait()

    async def answer_all(self) -> None:
        """From the test's own loop: let go of those who still wait for their like."""
        if self.loop is not None and not self.loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.together.abort(), self.loop))


class FakeLine:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.hung_up = 0

    async def read(self, sql: str, params: Sequence[Any]) -> list[Row]:
        await self.exchange.work(sql)
        return [(text,) for text in self.exchange.kept]

    async def write(self, batch: Batch) -> None:
        await self.exchange.work(batch[0].sql)
        self.exchange.kept.append(batch[0].sql)

    async def close(self) -> None:
        self.hung_up += 1


@pytest.fixture
async def exchange():
    exchange = Exchange()
    yield exchange
    await exchange.answer_all()


@pytest.fixture
async def database(exchange: Exchange):
    database = ServerDatabase("nowhere", exchange.new_line, 3)
    yield database
    await database.close()


def put(text: str) -> list[Statement]:
    return [Statement(text)]


async def test_a_read_sees_all_that_its_task_submitted_before_whichever_line_took_it(database: ServerDatabase) -> None:
    database.write(put("long" * 10))
    database.write(put("short"))
    assert sorted(await database.read("")) == [("long" * 10,), ("short",)]


async def test_what_a_callback_submits_is_done_like_what_a_task_submits(database: ServerDatabase, exchange: Exchange) -> None:
    futures: list[asyncio.Future[Any]] = []
    asyncio.get_running_loop().call_soon(lambda: futures.append(database.write(put("a"))))
    await asyncio.sleep(0)
    await futures[0]
    assert exchange.kept == ["a"]


async def test_a_database_that_was_closed_before_its_first_verb_starts_no_thread(exchange: Exchange) -> None:
    database = ServerDatabase("nowhere", exchange.new_line, 1)
    await database.close()
    with pytest.raises(StoreUnavailable, match="nowhere: it is closed"):
        await database.read("")
    assert database._office is None


async def test_work_that_meets_the_thread_on_its_way_out_is_answered(exchange: Exchange) -> None:
    database = ServerDatabase("nowhere", exchange.new_line, 1)
    await database.write(put("a"))
    office = database._office
    assert office is not None
    office.put(Close(None))
    await asyncio.to_thread(office.thread.join, 10)
    with pytest.raises(StoreUnavailable, match="closed; nothing was read or written"):
        await database.write(put("b"))
    assert exchange.kept == ["a"]


# --- who is cancelled ----------------------------------------------------------------------------------


async def goes_on(task: asyncio.Task[Any]) -> None:
    """``task`` is cancelled, and over before its server has answered."""
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def until_asked(exchange: Exchange, text: str) -> None:
    while text not in exchange.asked:
        await asyncio.sleep(0.001)  # the lines have an event loop of their own


async def read(database: ServerDatabase, text: str) -> list[Row]:
    return await database.read(text)


async def test_who_is_cancelled_in_a_read_waits_for_no_answer_and_nobody_else_gets_it(exchange: Exchange) -> None:
    database, exchange.together = ServerDatabase("nowhere", exchange.new_line, 2), asyncio.Barrier(2)
    await database.write(put("before"))
    silent = asyncio.create_task(read(database, "together"))
    await until_asked(exchange, "together")
    await goes_on(silent)
    await database.write(put("between"))
    assert await database.read("together") == [("before",), ("between",)]
    assert await asyncio.gather(database.read(""), database.read("")) == [[("before",), ("between",)]] * 2
    await database.close()
    assert len(exchange.lines) == 2


async def test_a_read_that_was_cancelled_before_its_turn_is_not_read(exchange: Exchange) -> None:
    database, exchange.together = ServerDatabase("nowhere", exchange.new_line, 1), asyncio.Barrier(2)
    write = database.write(put("together"))
    await until_asked(exchange, "together")
    in_line = asyncio.create_task(read(database, "unwanted"))
    await asyncio.sleep(0)
    await goes_on(in_line)
    await exchange.answer_all()
    with pytest.raises(asyncio.BrokenBarrierError):
        await write
    assert await database.read("") == []
    await database.close()
    assert exchange.asked == ["together", ""]


async def test_a_read_that_was_cancelled_while_it_waited_for_a_write_is_not_read(exchange: Exchange) -> None:
    database, exchange.together = ServerDatabase("nowhere", exchange.new_line, 2), asyncio.Barrier(2)

    async def write_and_read() -> None:
        database.write(put("together"))
        await database.read("unwanted")

    task = asyncio.create_task(write_and_read())
    await until_asked(exchange, "together")
    await goes_on(task)
    await database.write(put("together"))
    await database.close()
    assert exchange.kept == ["together"] * 2
    assert "unwanted" not in exchange.asked


async def test_who_is_cancelled_in_a_write_learns_its_outcome_first(exchange: Exchange) -> None:
    database, exchange.together = ServerDatabase("nowhere", exchange.new_line, 2), asyncio.Barrier(2)
    write = database.write(put("together"))
    task = asyncio.create_task(learned(write))
    await asyncio.sleep(0)
    await until_asked(exchange, "together")
    task.cancel()
    await asyncio.wait({task}, timeout=0.01)
    assert not task.done()
    await database.write(put("together"))
    assert await task is None
    await database.close()


async def learned(write: asyncio.Future[None]) -> BaseException | None:
    try:
        await write
    except asyncio.CancelledError:
        return write.exception()
    raise AssertionError("it was cancelled")


class MovedTime(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved on."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


async def test_of_several_connections_each_is_hung_up_once_nobody_needed_it_for_a_minute(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    office_loop = MovedTime()
    database = ServerDatabase("nowhere", exchange.new_line, 3)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", lambda: office_loop)
        await database.write(put("a"))

    async def used(at_once: int, at_s: float) -> list[int]:
        """How often each line was hung up, once so many were in use at that time and the thread has nothing left to do."""
        office_loop.ahead_s, exchange.together = at_s, asyncio.Barrier(at_once)
        await asyncio.gather(*(database.read("together") for _ in range(at_once)))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), office_loop))
        return [line.hung_up for line in exchange.lines]

    assert await used(3, 0) == [0, 0, 0]
    assert await used(2, MINUTE_S / 2) == [0, 0, 0]
    assert sum(await used(1, MINUTE_S)) == 1
    assert sum(await used(1, 2 * MINUTE_S)) == 2
    await database.close()
    assert [line.hung_up for line in exchange.lines] == [1, 1, 1]
