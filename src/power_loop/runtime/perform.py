"""THE LOOP: decide, perform, until the send rests or is over.

`send`, `resume`, a follow-up, an answer and a crashed process's successor all come through here: recovery is
no path of its own.
"""

from __future__ import annotations

from typing import assert_never

from power_loop.contracts.effects import CallModel, Effect, EndSend, FoldContext, ReportCancelled, ReportUnknown, Rest, RunTools
from power_loop.contracts.records import SendRested, StopRequested
from power_loop.runtime.asking import adopt, ask, stopped_by
from power_loop.runtime.call_model import call_model
from power_loop.runtime.end_send import end_send
from power_loop.runtime.fold_context import fold_context
from power_loop.runtime.reports import report_cancelled, report_unknown
from power_loop.runtime.rounds import close_round
from power_loop.runtime.run_tools import run_tools
from power_loop.runtime.send import Send


async def run(send: Send) -> None:
    """Drive the send until it rests or is over, and give the lease back."""
    await start(send)
    while send.session.head.holder is not None:
        while not isinstance(effect := await send.next(), Rest):
            await perform(send, effect)
        if send.round_open:  # while a handler sees the round off, something may be heard
            await close_round(send)
            continue
        if not send.ahead.idle:
            send.note(SendRested("waiting_for_input" if send.ahead.parked else "pending_tools"))
        await send.flush(release=True)


async def start(send: Send) -> None:
    """The first event of every run; a handler may stop it here, or put other messages in place."""
    stop: StopRequested | None = None
    if send.ports.hooks.stands("session.start"):
        context = await ask(send, "session.start", messages=send.window.messages, stop_event=send.terms.cancel)
        adopt(send, context)
        stop = stopped_by("session.start", context)
    send.teller.begin(send.terms.scope)
    if stop is not None:
        send.note(stop)


async def perform(send: Send, effect: Effect) -> None:
    match effect:
        case CallModel():
            await call_model(send, effect)
        case RunTools():
            await run_tools(send, effect)
        case EndSend():
            await end_send(send, effect)
        case FoldContext():
            await fold_context(send, effect)
        case ReportUnknown():
            await report_unknown(send, effect)
        case ReportCancelled():
            await report_cancelled(send, effect)
        case Rest():
            return
        case _:
            assert_never(effect)
