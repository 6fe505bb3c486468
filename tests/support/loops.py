"""Loops that nobody has to close: they are closed when the test is over.

A test file says ``pytestmark = pytest.mark.usefixtures("loops_closed")``, and hands its loops to `kept`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from power_loop import StatefulAgentLoop

LOOPS: list[StatefulAgentLoop] = []
"""Of the test that runs, the oldest first."""


def kept(loop: StatefulAgentLoop) -> StatefulAgentLoop:
    LOOPS.append(loop)
    return loop


@pytest.fixture
async def loops_closed() -> AsyncIterator[None]:
    yield
    while LOOPS:
        await LOOPS.pop().aclose(drain_timeout_s=1)
