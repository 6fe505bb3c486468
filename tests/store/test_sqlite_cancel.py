"""Cancelling whoever waits for the database: the outcome is known first, and no transaction is left open."""

from __future__ import annotations

import asyncio

import pytest

from power_loop.contracts.store import Conflict, Statement
from power_loop.store.open import open_database

WRITE = [
    Statement("UPDATE pl_sessions SET head = head + 1 WHERE session_id = 's'", (), 1),
    Statement("INSERT INTO pl_send_keys (session_id, send_key, send_index, seq, created_at) SELECT 's', head, 0, 0, 0 FROM pl_sessions"),
]
FAIL = [*WRITE, Statement("UPDATE pl_sessions SET head = 0 WHERE session_id = 'nobody'", (), 1)]


@pytest.fixture(params=["app.db", ":memory:"])
async def database(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = await open_database(request.param)
    await opened.database.write([Statement("INSERT INTO pl_sessions (session_id) VALUES ('s')")])
    yield opened.database
    await opened.database.close()


# acceptance: 39
@pytest.mark.parametrize("batch", [WRITE, FAIL])
async def test_a_cancel_at_any_step_leaves_no_transaction_open_and_no_half_batch(database, batch):
    for steps in range(8):
        task = asyncio.create_task(write_and_read(database, batch))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.write(WRITE)
        ((head, keys),) = await database.read("SELECT head, (SELECT count(*) FROM pl_send_keys) FROM pl_sessions")
        assert head == keys
        assert batch is WRITE or head == steps + 1


async def write_and_read(database, batch) -> None:
    try:
        await database.write(batch)
    except Conflict:
        pass
    await database.read("SELECT head FROM pl_sessions")


# acceptance: 39
async def test_a_cancelled_task_can_ask_what_became_of_its_write(tmp_path):
    database = (await open_database(str(tmp_path / "app.db"))).database
    learned = []

    async def write(statement: Statement) -> None:
        future = database.write([statement])
        try:
            await future
        except asyncio.CancelledError:
            learned.append(type(future.exception()))
            raise

    tasks = [
        asyncio.create_task(write(Statement("INSERT INTO pl_sessions (session_id) VALUES ('a')", (), 1))),
        asyncio.create_task(write(Statement("DELETE FROM pl_sessions WHERE session_id = 'b'", (), 1))),
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, True]
    assert learned == [type(None), Conflict]
    assert await database.maintain(lambda connection: connection.in_transaction) is False
    await database.close()
