"""The database contract and the store contract on MariaDB and on MySQL itself."""

from __future__ import annotations

import engines
import pytest

from power_loop.store.open import open_database
from power_loop.store.sql_store import open_store
from power_loop.testing.database_contract import DatabaseContract
from power_loop.testing.store_contract import StoreContract


@pytest.fixture(params=["mariadb", "mysql"])
async def dsn(request, tmp_path):
    async with engines.cleared(request.param, tmp_path) as dsn:
        yield dsn


class TestDatabase(DatabaseContract):
    @pytest.fixture
    async def database(self, dsn):
        opened = await open_database(dsn)
        yield opened.database
        await opened.database.close()


class TestStore(StoreContract):
    @pytest.fixture
    async def store(self, dsn):
        store = await open_store(dsn)
        yield store
        await store.close()
