"""The database contract on every engine that this build has."""

from __future__ import annotations

import asyncio

import engines
import pytest

from power_loop.store.memory import MemoryDatabase
from power_loop.store.open import open_database
from power_loop.testing.database_contract import DatabaseContract


class TestSqliteFull(DatabaseContract):
    @pytest.fixture
    async def database(self, tmp_path):
        opened = await open_database(f"sqlite:///{tmp_path / 'app.db'}")
        yield opened.database
        await opened.database.close()


class TestSqliteNormalWithAnotherPrefix(DatabaseContract):
    prefix = "My_1"

    @pytest.fixture
    async def database(self, tmp_path):
        opened = await open_database(f"sqlite:///{tmp_path / 'app.db'}?synchronous=normal", table_prefix=self.prefix)
        yield opened.database
        await opened.database.close()


class TestMemory(DatabaseContract):
    prefix = ""

    @pytest.fixture
    async def database(self):
        opened = await open_database(":memory:", table_prefix="")
        yield opened.database
        await opened.database.close()


class TestMemoryWithPauses(DatabaseContract):
    # A database with pauses does its work in tasks of the simulation's event loop, so it ends with that loop.
    test_an_event_loop_that_is_closed_in_the_middle_harms_nobody = None

    @pytest.fixture
    async def database(self):
        async def pause(where: str) -> None:
            await asyncio.sleep(0)

        core = MemoryDatabase.with_schema()
        database = core.connect(pause=pause)
        yield database
        await database.close()
        await core.close()


class TestPostgres(DatabaseContract):
    prefix = "My_1"

    @pytest.fixture
    async def database(self, tmp_path):
        async with engines.fresh("postgresql", tmp_path) as dsn:
            opened = await open_database(dsn, table_prefix=self.prefix)
            yield opened.database
            await opened.database.close()
