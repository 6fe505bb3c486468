"""The tools ``schedule_wakeup``, ``list_wakeups`` and ``cancel_wakeup``: timers whose note the session hears later.

Firing them is not done here: a timer runner, a worker or the store's ``fire_due`` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.clock import iso
from power_loop.tools.builtin.given import Given, failed

MAX_ARMED = 10
MIN_DELAY_S, MAX_DELAY_S = 5, 30 * 24 * 3600

_SECONDS = {"type": "number", "minimum": MIN_DELAY_S, "maximum": MAX_DELAY_S}
_NOWHERE = "There is no session here that could be woken."


def about_schedule(args: Mapping[str, Any], result: str | None) -> str:
    return f"schedule_wakeup: in {args.get('delay_seconds')} s, {' '.join(str(args.get('note', '')).split())[:100]}"


def about_cancel(args: Mapping[str, Any], result: str | None) -> str:
    return f"cancel_wakeup: {args.get('timer_id')}"


DEFINITIONS = (
    ToolDefinition(
        "schedule_wakeup",
        f"Be woken later: after the delay this session hears the note. At most {MAX_ARMED} wake-ups wait at a time.",
        {
            "type": "object",
            "properties": {
                "delay_seconds": {**_SECONDS, "description": "From now; 5 seconds to 30 days"},
                "note": {"type": "string", "minLength": 1, "description": "What to remember when you are woken"},
                "every_seconds": {**_SECONDS, "description": "Again and again, this long after each time. Left out: once"},
            },
            "required": ["delay_seconds", "note"],
            "additionalProperties": False,
        },
        project=about_schedule,
        effects="idempotent",
    ),
    ToolDefinition(
        "list_wakeups",
        "The wake-ups of this session that wait, soonest first.",
        {"type": "object", "properties": {}, "additionalProperties": False},
        effects="pure",
    ),
    ToolDefinition(
        "cancel_wakeup",
        "Take back a wake-up that waits.",
        {
            "type": "object",
            "properties": {"timer_id": {"type": "integer", "minimum": 1, "description": "What schedule_wakeup gave"}},
            "required": ["timer_id"],
            "additionalProperties": False,
        },
        project=about_cancel,
        effects="idempotent",
    ),
)


async def schedule_wakeup(run: ToolRun, delay_seconds: float, note: str, every_seconds: float | None = None) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    key = run.idempotency_key or None
    timer: TimerRow | None = await run.store.keyed_timer(run.session_id, key) if key is not None else None
    if timer is None and (wrong := await _fault_in(run, delay_seconds, note, every_seconds)) is not None:
        return failed(f"{wrong} Nothing was scheduled.")
    timer = timer or await _created(run, delay_seconds, note, every_seconds, key)
    again = "" if timer.interval_s is None else f", then every {timer.interval_s:g} s"
    return ToolHandlerResult(True, f"Wake-up {timer.timer_id} is set for {iso(timer.due_at)}{again}.", {"timer_id": timer.timer_id})


async def _created(run: ToolRun, delay_s: float, note: str, every_s: float | None, key: str | None) -> TimerRow:
    due_at = run.store.clock.now_ms() + round(delay_s * 1000)
    return await run.store.create_timer(run.session_id, due_at=due_at, note=note, interval_s=every_s, key=key)


async def _fault_in(run: ToolRun, delay_s: float, note: str, every_s: float | None) -> str | None:
    for name, seconds in (("delay_seconds", delay_s), ("every_seconds", every_s)):
        if seconds is not None and not MIN_DELAY_S <= seconds <= MAX_DELAY_S:
            return f"{name} is {seconds:g}; it must be {MIN_DELAY_S} to {MAX_DELAY_S} (30 days)."
    if not note.strip():
        return "A wake-up needs a note: what you shall remember then."
    armed: list[TimerRow] = await run.store.list_timers(run.session_id)
    if len(armed) >= MAX_ARMED:
        return f"{len(armed)} wake-ups wait already, and {MAX_ARMED} may: cancel one of these first.\n{_listed(armed)}\n"
    return None


async def list_wakeups(run: ToolRun) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    armed: list[TimerRow] = await run.store.list_timers(run.session_id)
    return ToolHandlerResult(True, _listed(armed) or "No wake-up waits in this session.")


async def cancel_wakeup(run: ToolRun, timer_id: int) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    moved = await run.store.transition_timer(run.session_id, timer_id, from_status="armed", to_status="cancelled")
    timer: TimerRow | None = await run.store.get_timer(run.session_id, timer_id)
    if moved or (timer is not None and timer.status == "cancelled"):
        return ToolHandlerResult(True, f"Wake-up {timer_id} is cancelled.", {"timer_id": timer_id})
    if timer is not None:
        return failed(f"Wake-up {timer_id} has fired already; there is nothing to cancel.")
    return failed(f"There is no wake-up {timer_id} in this session. list_wakeups shows those that wait.")


def _listed(timers: list[TimerRow]) -> str:
    return "\n".join(
        f"{timer.timer_id}: {iso(timer.due_at)}{'' if timer.interval_s is None else f', every {timer.interval_s:g} s'}: "
        f"{' '.join(timer.note.split())[:200]}"
        for timer in timers
    )


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"schedule_wakeup": schedule_wakeup, "list_wakeups": list_wakeups, "cancel_wakeup": cancel_wakeup}
