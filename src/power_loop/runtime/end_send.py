"""The end of a send: the last questions to the hooks, the summary of one that ran out of rounds, and the record."""

from __future__ import annotations

from power_loop.contracts.effects import EndSend
from power_loop.contracts.errors import LLMError, ModelRetry, StructuredOutputError
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.limits import TIME_LIMIT
from power_loop.contracts.made import made
from power_loop.contracts.messages import Content, Message
from power_loop.contracts.outcome import described
from power_loop.contracts.records import SendEnded, UserSaid
from power_loop.kernel.state import Stop
from power_loop.runtime.asking import ask, words_of
from power_loop.runtime.call_model import ask_model
from power_loop.runtime.outcome import final_text
from power_loop.runtime.rounds import close_round
from power_loop.runtime.send import Send

LIMIT_REQUEST: Message = {
    "role": "user",
    "content": "You have used all your rounds. Call no tool. Say in a few sentences what was done, what came out, and what is left.",
}


async def end_send(send: Send, effect: EndSend) -> None:
    """End it with ``effect.status``, unless a handler wants another round, or something is heard before it is written."""
    hooks, ground = send.ports.hooks, ground_of(send)
    if effect.status == "completed" and send.ahead.stop is None and "complete.decide" in hooks.standing and await _vetoed(send):
        return
    if send.round_open:
        await close_round(send)
    if ground != ground_of(send):
        return
    if effect.status == "hit_round_limit" and send.ahead.stop is None:
        await _summarise(send)
        if send.scope.stop is not None or is_cancelled(send):  # asked for meanwhile: that is how the send ends
            return
    elif effect.status == "budget_exceeded":
        _tell_budget(send, effect.reason)
    if "session.end" in hooks.standing:
        ground = ground_of(send)
        await send.flush()
        if ground != ground_of(send):
            return
        text = final_text(effect.status, effect.reason, send.ahead.text)
        await ask(send, "session.end", reason=effect.status, messages=send.window.messages, final_text=text)
    send.note(made(SendEnded, (effect.status, effect.reason, send.error or _error(effect))))


def is_cancelled(send: Send) -> bool:
    return send.ahead.stop is not None and send.ahead.stop.status == "cancelled"


def ground_of(send: Send) -> tuple[bool, Stop | None, bool]:
    """What the end rests on; what is heard, or could be, while what was noted is written changes it."""
    return send.ahead.answered, send.ahead.stop, send.may_hear_a_word()


async def _vetoed(send: Send) -> bool:
    """A handler says that the answer is not one yet; its message asks for another round."""
    if send.ahead.vetoes >= send.terms.settings.max_vetoes:
        return False
    await send.flush()
    message: Content | None
    try:
        context = await ask(send, "complete.decide", messages=send.window.messages, final_text=send.ahead.text, vetoes=send.ahead.vetoes)
        message = words_of(context.message, "complete.decide") if context.directive == HookDirective.SKIP and context.message else None
    except ModelRetry as asked:
        message = asked.message
    if message:
        await send.say(UserSaid(message, "hook"))
    return not send.ahead.answered  # a handler at message.append may have dropped the message


async def _summarise(send: Send) -> None:
    """One more call in which no tool may be called. When it fails the send ends without a summary."""
    send.teller.say("status_changed", kind="hit_round_limit", max_rounds=send.terms.limits.rounds + send.ahead.extra_rounds)
    try:
        await ask_model(send, "limit_summary", [LIMIT_REQUEST], tool_choice="none")
    except LLMError as error:
        send.error = described(error)


def _tell_budget(send: Send, reason: str) -> None:
    """Which limit is reached: of this send, or of one above it."""
    limit = "seconds" if reason == TIME_LIMIT else reason
    limits = send.terms.limits.usage.to_dict() if send.terms.limits.usage is not None else {}
    if send.books is not None:
        limits = {**send.books.limits, **limits}
    budget, spent = limits.get(limit), max(send.ahead.usage.total, send.books.spent_tokens if send.books is not None else 0)
    send.teller.say(
        "status_changed", kind="budget_exceeded", budget_tokens=budget, spent_tokens=spent, rounds=send.ahead.rounds, limit=limit
    )


def _error(effect: EndSend) -> dict[str, str] | None:
    if effect.status == "invalid_output":
        return {"code": StructuredOutputError.code, "type": StructuredOutputError.__name__, "message": effect.reason}
    if effect.status != "cancelled":
        return None
    return {"code": "cancelled", "type": "CancellationRequested", "message": effect.reason or "cancelled"}
