"""A simulation takes thousands of sessions over; each is worth a warning in a log, not here."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log = logging.getLogger("power_loop")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)
