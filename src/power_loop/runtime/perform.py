"""THE LOOP: decide, perform, until the send rests or is over.

`send`, `resume`, a follow-up, an answer and a crashed process's successor all come through here: recovery is
no path of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from power_loop.contracts.effects import (
    CallModel,
    CheckOutput,
    Effect,
    EndSend,
    FoldContext,
    ReportCancelled,
    ReportDenied,
    ReportUnknown,
    Rest,
    RunTools,
)
from power_loop.contracts.records import SendRested
from power_loop.runtime.approvals import report_denied
from power_loop.runtime.asking import adopt, ask, stopped_by
from power_loop.runtime.call_model import call_model
from power_loop.runtime.end_send import end_send
from power_loop.runtime.fold_context import fold_context
from power_loop.runtime.output import check_output
from power_loop.runtime.reports import report_cancelled, report_unknown
from power_loop.runtime.rounds import close_round
from power_loop.runtime.run_tools import run_tools
from power_loop.runtime.send import Send


async def run(send: Send) -> None:
    """Drive the send until it rests or is over, and give the lease back."""
    if "session.start" in send.ports.hooks.standing:
        await _start_with_handlers(send)
    else:
        send.teller.begin(send.terms.scope, send.ports.agent)
    while send.session.head.holder is not None:
        if send.session.waiting:
            if send.round_open and send.may_hear_a_word():  # which belongs to the next one
                await close_round(send)
            await send.hear()
        effect = send.next()
        await PERFORMERS[type(effect)](send, effect)


def rest(send: Send, effect: Rest) -> Awaitable[None]:
    """Nothing follows: see the round off, then give the lease back."""
    if send.round_open:  # while a handler sees the round off, something may be heard
        return close_round(send)
    if not send.ahead.idle:
        send.note(SendRested("waiting_for_input" if send.ahead.parked else "pending_tools"))
    return send.flush(release=True)


PERFORMERS: Mapping[type[Effect], Callable[[Send, Any], Awaitable[None]]] = {
    CallModel: call_model,
    RunTools: run_tools,
    CheckOutput: check_output,
    EndSend: end_send,
    FoldContext: fold_context,
    ReportUnknown: report_unknown,
    ReportDenied: report_denied,
    ReportCancelled: report_cancelled,
    Rest: rest,
}


async def _start_with_handlers(send: Send) -> None:
    """A handler at the first event of a run may stop it here, or put other messages in place."""
    context = await ask(send, "session.start", messages=send.window.messages, stop_event=send.terms.cancel)
    adopt(send, context)
    stop = stopped_by("session.start", context)
    send.teller.begin(send.terms.scope, send.ports.agent)
    if stop is not None:
        send.note(stop)
