"""Where a round begins and ends: its events and hooks, always in pairs."""

from __future__ import annotations

from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.records import RoundSkipped
from power_loop.runtime.asking import adopt, ask, stopped_by
from power_loop.runtime.send import Send

LIST_TOOL = "todo"


def begin_round(send: Send) -> None:
    """Say that a round is under way: a new one, or one that an earlier run left open."""
    send.round_open = True
    send.rounds_here += 1
    if not send.ports.bus.silent:
        send.teller.say("round_started", round_index=send.teller.round_index)


async def close_round(send: Send, *, skipped: bool = False) -> None:
    """Say that the round, which is open, is over, to the listeners and then to the handlers."""
    if "round.end" not in send.ports.hooks.standing:
        leave_round(send, skipped=skipped)
        return
    await send.flush()
    leave_round(send, skipped=skipped)
    text = "" if skipped else send.ahead.text
    await ask(send, "round.end", messages=send.window.messages, response_text=text, **_done_in(send, skipped=skipped))


def leave_round(send: Send, *, skipped: bool = False) -> None:
    """The round is over for the listeners, whatever ended it."""
    if send.round_open:
        send.round_open = False
        if not send.ports.bus.silent:
            done = _done_in(send, skipped=skipped)
            send.teller.say("round_completed", round_index=send.teller.round_index, **done, skipped=skipped)


def _done_in(send: Send, *, skipped: bool) -> dict[str, bool]:
    """What a round did; one that was skipped did nothing."""
    return {"has_tools": not skipped and bool(send.ahead.asked), "used_todo": not skipped and used_todo(send)}


def used_todo(send: Send) -> bool:
    """The round asked for the list of what is left to do to be written."""
    return bool(send.ahead.asked) and any(call.name == LIST_TOOL for call in send.ahead.asked)


async def may_start(send: Send) -> bool:
    """Ask the handlers before a round begins; False when one stopped the send or used the round up."""
    await send.flush()
    context = await ask(send, "round.start", messages=send.window.messages, stop_event=send.terms.cancel)
    adopt(send, context)
    if stop := stopped_by("round.start", context):
        send.note(stop)
        return False
    if context.directive == HookDirective.SKIP:
        begin_round(send)
        send.note(RoundSkipped(context.reason or ""))
        await close_round(send, skipped=True)
        return False
    return True
