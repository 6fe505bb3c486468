"""What happens when a timer's note comes out of the inbox: the handlers at ``timer.fire`` are asked, the listeners told.

Runs where the session is driven, whoever drives it and whoever fired the timer. Loaded with the first such note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import InboxItem, SessionLog, TimerMove
from power_loop.runtime.asking import STOPPING, ask, words_of
from power_loop.runtime.tell import publish

if TYPE_CHECKING:
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.send import Send


class Fired(NamedTuple):
    """One firing, as its inbox item tells of it."""

    timer_id: int
    firing: int
    note: str
    due_at: int

    def told(self, outcome: str) -> dict[str, object]:
        """The fields of its event."""
        return {"timer_id": str(self.timer_id), "note": self.note, "due_at": self.due_at, "outcome": outcome}


def fired_of(item: InboxItem) -> Fired | None:
    """None for what no timer left."""
    kind, _, rest = item.key.partition(":")
    timer_id, _, firing = rest.partition(":")
    record = item.record
    if kind != "timer" or not (timer_id.isdecimal() and firing.isdecimal()) or not isinstance(record, UserSaid) or record.name != "timer":
        return None
    text = record.content if isinstance(record.content, str) else ""
    note = text.removeprefix(f"<timer id={timer_id}>").removesuffix("</timer>")
    return Fired(int(timer_id), int(firing), note, (record.metadata or {}).get("due_at", item.created_at))


async def at_timer_fire(send: Send, items: Sequence[InboxItem], words: Mapping[int, UserSaid]) -> dict[int, UserSaid]:
    """``words`` (by inbox item) as the handlers want them. What they keep out is heard with the next batch all the same."""
    if "timer.fire" not in send.ports.hooks.standing:
        return dict(words)
    await send.flush()
    entering: dict[int, UserSaid] = {}
    for item in items:
        if (fired := fired_of(item)) is None:
            entering[item.item_id] = words[item.item_id]
        elif (shaped := await _asked(send, fired, words[item.item_id])) is not None:
            entering[item.item_id] = shaped
        else:
            send.heard.append(item.item_id)
    # The inbox may have been scanned again meanwhile, with these items still in it.
    send.session.waiting = [item for item in send.session.waiting if item.item_id not in words]
    return entering


async def _asked(send: Send, fired: Fired, word: UserSaid) -> UserSaid | None:
    """The word as it enters; None when it does not."""
    given = {"timer_id": str(fired.timer_id), "note": fired.note, "due_at": fired.due_at, "message": word.content}
    try:
        context = await ask(send, "timer.fire", **given)
        move = _moved(send, fired, context.directive, context.postpone_s)
        enters = move is None and context.directive != HookDirective.SKIP
        message = words_of(context.message, "timer.fire") if enters else word.content
    except Exception:  # a handler's; it passes, and the note stays in the inbox
        send.teller.say("timer_fired", **fired.told("error"))
        raise
    if move is not None:
        send.timers = [*send.timers, move]
    if enters:
        return word if message == word.content else word._replace(content=message)
    outcome = "skipped" if move is None else "cancelled" if move.status == "cancelled" else "postponed"
    send.teller.say("timer_fired", **fired.told(outcome))
    return None


def _moved(send: Send, fired: Fired, directive: HookDirective, postpone_s: float) -> TimerMove | None:
    """What the handlers want of the timer itself."""
    if directive in STOPPING:
        return TimerMove(fired.timer_id, fired.firing, "cancelled")
    if directive == HookDirective.SKIP or postpone_s <= 0:
        return None
    return TimerMove(fired.timer_id, fired.firing, "armed", send.ports.clock.now_ms() + round(postpone_s * 1000))


def tell_delivered(send: Send, items: Sequence[InboxItem], words: Mapping[int, UserSaid]) -> None:
    """Those of ``items`` that timers left have entered."""
    for item in items:
        if item.item_id in words and (fired := fired_of(item)) is not None:
            send.teller.say("timer_fired", **fired.told("delivered"))


async def tell_queued(log: SessionLog, bus: AgentEventBus, timers: Sequence[TimerRow]) -> None:
    """Tell of the ``timers`` that fired just now into sessions that somebody drives: they are heard there."""
    for timer in timers:
        try:
            head = await log.look(timer.session_id)
        except SessionNotFoundError:
            continue
        if head.holder is not None:
            told = Fired(timer.timer_id, timer.fire_count + 1, timer.note, timer.due_at).told("queued")
            publish(bus, "timer_fired", told, session_id=timer.session_id)
