"""The store contract on every engine that this build has, and on a memory store whose verbs take their time."""

from __future__ import annotations

import asyncio

import engines
import pytest

from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore, open_store
from power_loop.testing.store_contract import StoreContract


# acceptance: 83
def test_every_engine_runs_the_suite_that_is_shipped_unchanged() -> None:
    suites = [kind for name, kind in globals().items() if name.startswith("Test")]
    claims = [name for name in dir(StoreContract) if name.startswith("test_")]
    assert len(suites) >= 4
    assert all(getattr(kind, name) in (getattr(StoreContract, name), None) for kind in suites for name in claims)


class TestSqlite(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        store = await open_store(f"sqlite:///{tmp_path / 'app.db'}?synchronous=normal", table_prefix="My_")
        yield store
        await store.close()


class TestMemory(StoreContract):
    @pytest.fixture
    async def store(self):
        store = await open_store(":memory:")
        yield store
        await store.close()


class TestMemoryWithPauses(StoreContract):
    @pytest.fixture
    async def store(self):
        async def pause(where: str) -> None:
            await asyncio.sleep(0)

        store = SessionStore(MemoryDatabase.with_schema(pause=pause), MemoryDatabase.dialect)
        yield store
        await store.close()


class TestPostgres(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with engines.cleared("postgresql", tmp_path) as dsn:
            store = await open_store(dsn)
            yield store
            await store.close()
