"""`CancellationToken`: whoever listens is told, whatever becomes of the others who do."""

from __future__ import annotations

import asyncio

import pytest

from power_loop import CancellationToken


def raising(_: str) -> None:
    raise ZeroDivisionError("from a listener")


def test_a_listener_that_raises_keeps_the_cancel_from_no_other(caplog: pytest.LogCaptureFixture) -> None:
    token, heard = CancellationToken(), []
    token.on_cancel(raising)
    token.on_cancel(heard.append)
    token.cancel("enough")
    assert heard == ["enough"]
    assert [record.getMessage() for record in caplog.records] == ["a listener of a cancellation raised; the work is cancelled all the same"]


def test_who_waited_in_an_event_loop_that_is_closed_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    token, heard, loop = CancellationToken(), [], asyncio.new_event_loop()
    waiting = loop.create_task(token.wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    token.on_cancel(heard.append)
    token.cancel("enough")
    assert heard == ["enough"]
    assert caplog.records == []
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it was left pending on purpose
