"""A simulation takes thousands of sessions over; each is worth a warning in a log, not here."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quiet(quiet_log: None) -> None: ...
