"""What the tests of the ledger share: a family of sessions on any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import engines
import pytest
from families import Family

from power_loop import open_store

# Of MySQL and MariaDB one is enough here; the engine's own tests know both.
ENGINES = [engine for engine in engines.ALL if engine != "mysql"]


@pytest.fixture(params=ENGINES)
async def family(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Family]:
    async with engines.cleared(request.param, tmp_path) as dsn:
        place = Family(request.param, dsn, await open_store(dsn) if request.param == "memory" else None)
        yield place
        await place.close()


@pytest.fixture
async def small_family() -> AsyncIterator[Family]:
    """In memory, for claims that no engine changes."""
    place = Family("memory", ":memory:", await open_store(":memory:"))
    yield place
    await place.close()
