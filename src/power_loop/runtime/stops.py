"""What may stop a send from within its process: the caller's token, and its limit in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from power_loop.contracts.limits import TIME_LIMIT
from power_loop.contracts.records import StopRequested
from power_loop.runtime.send import Send


def unwatched() -> None:
    """Nothing was tied."""


def watch_stops(send: Send) -> Callable[[], None]:
    """Tie the send to its token and its time limit; the answer unties it."""
    token, limits = send.terms.cancel, send.terms.limits.usage
    if token is None and (limits is None or limits.seconds is None):
        return unwatched
    undo: list[Callable[[], object]] = []
    if token is not None:
        undo.append(token.on_cancel(lambda reason: send.scope.request(StopRequested("cancelled", reason, "token"))))
        if token.polled:
            undo.append(asyncio.ensure_future(token.wait()).cancel)
    if limits is not None and limits.seconds is not None:
        stop = StopRequested("budget_exceeded", TIME_LIMIT, "limit")
        undo.append(asyncio.get_running_loop().call_later(limits.seconds, send.scope.request, stop).cancel)

    def untie() -> None:
        for step in undo:
            step()

    return untie
