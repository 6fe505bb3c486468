"""Nothing is asserted in `proofs`: the tests here draw cases and look at what was violated."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

import pytest
from proofs.suite import Missing


@pytest.fixture
def opened():
    """Open a suite; where what it needs is missing, skip, or fail where CI promised it."""

    @contextmanager
    def open_it(suite):
        with ExitStack() as stack:
            try:
                stack.enter_context(suite)
            except Missing as error:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{suite.name} was NOT RUN: {error}")
            yield suite

    return open_it
