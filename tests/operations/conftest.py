"""A store on each engine; whatever a test did to it, all invariants hold afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import engines
import pytest
from operating import Place

from power_loop import open_store
from power_loop.testing import check_invariants


@pytest.fixture(params=engines.ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The same claim on every engine."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        here = Place(request.param, dsn, await open_store(dsn))
        yield here
        await here.close()
        assert await check_invariants(here.store) == []
        await here.store.close()


@pytest.fixture
async def memory_place() -> AsyncIterator[Place]:
    """In memory, for claims in which the engine has no part."""
    here = Place("memory", ":memory:", await open_store(":memory:"))
    yield here
    await here.close()
    assert await check_invariants(here.store) == []
    await here.store.close()


@pytest.fixture
async def file_place(tmp_path: Path) -> AsyncIterator[Place]:
    """A SQLite file, for claims about files."""
    here = Place("sqlite", str(tmp_path / "app.db"), await open_store(str(tmp_path / "app.db")))
    yield here
    await here.close()
    assert await check_invariants(here.store) == []
    await here.store.close()
