"""The rows of background work, on every engine: begun once, ended once, asked to stop once."""

from __future__ import annotations

from pathlib import Path

import engines
import pytest

from power_loop.contracts.store import Conflict
from power_loop.store.sql_store import open_store

COMMAND = "echo 'ä' \"☃\" \\ ;\nls"


@pytest.mark.parametrize("engine", engines.ALL)
async def test_the_life_of_a_job(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        try:
            session, other = await store.create_session(), await store.create_session()
            await store.begin_job(session, "bg_1", kind="command", command=COMMAND, holder="me", timeout_s=300.0)
            await store.begin_job(session, "bg_2", kind="command", command="x", holder=None)
            with pytest.raises(Conflict):
                await store.begin_job(session, "bg_1", kind="command", command="again", holder="me")
            assert await store.running_jobs(session) == [("bg_1", "command", "me"), ("bg_2", "command", None)]
            assert await store.list_jobs(other) == []

            assert await store.ask_job_to_stop(session, "bg_1", "enough 'now'")
            assert await store.ask_job_to_stop(session, "bg_1", "the first reason stands")
            job = await store.get_job(session, "bg_1")
            assert job is not None
            assert (job.command, job.holder, job.timeout_s, job.stop, job.state) == (COMMAND, "me", 300.0, "enough 'now'", "running")

            assert await store.end_job(session, "bg_1", status="failed", return_code=3, output="é\0\n" * 30_000)
            assert not await store.end_job(session, "bg_1", status="completed")
            assert not await store.ask_job_to_stop(session, "bg_1", "too late")
            row = await store.get_background_task(session, "bg_1")
            assert row is not None
            assert (row.status, row.return_code, row.output_tail) == ("failed", 3, "é�\n" * 30_000)
            assert [job.state for job in await store.list_jobs(session)] == ["failed(3)", "running"]

            await store.close_session(session)
            assert not await store.end_job(session, "bg_2", status="completed")
            assert await store.list_jobs(session) == []
        finally:
            await store.close()
