"""A store on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import engines
import pytest
from operating import Place

from power_loop import open_store


@pytest.fixture(params=engines.ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The same claim on every engine."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        here = Place(request.param, dsn, await open_store(dsn))
        yield here
        await here.close()
        await here.store.close()
