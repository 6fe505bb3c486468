"""Answering calls that nobody will run: those a crash left in doubt, and those that a stop leaves open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from power_loop.contracts.effects import ReportCancelled, ReportUnknown
from power_loop.contracts.late import LateResult
from power_loop.contracts.log import log
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ToolParked, ToolReturned
from power_loop.contracts.results import render_result
from power_loop.kernel.call_keys import key_of
from power_loop.runtime.cancel import Cut
from power_loop.runtime.late import adopted, late_results_of
from power_loop.runtime.long_results import as_kept
from power_loop.runtime.one_call import Prepared, check, said_by, tool_run
from power_loop.runtime.send import Send

UNKNOWN = "it was begun and then interrupted. It may or may not have taken effect: check before you repeat it."


async def report_unknown(send: Send, effect: ReportUnknown) -> None:
    """Begun before a crash (or cut off now), no result: ask the tool what came of it, else say that nobody knows."""
    for call in effect.calls:
        key = key_of(send.session_id, send.send_index, send.ahead, call)
        late = await late_results_of(send, call, key)
        found = await _reconciled(send, call, key, late) or (adopted(call, late[-1]) if late else None)
        if found is not None:
            await send.say(found)
        elif send.ahead.unknown == "ask" and send.ahead.stop is None:
            send.note(ToolParked(call.id, _question(send, call)))
        else:
            await send.say(ToolReturned(call.id, _unknown_text(send, call), "unknown", call.name, ran=False))


async def report_cancelled(send: Send, effect: ReportCancelled) -> None:
    """The send stops: every call that is still open gets its answer."""
    stop = send.ahead.stop
    cancelled = stop is None or stop.status != "completed"
    text = f"<aborted: {stop.reason or stop.status}>" if stop and cancelled else "[skipped: the run was ended before this call]"
    await _answer(send, effect.calls, text, cancelled=cancelled)


async def _answer(send: Send, calls: Sequence[ToolCall], text: str, *, cancelled: bool) -> None:
    for call in calls:
        if in_doubt(send, call):
            await send.say(ToolReturned(call.id, f"{text} {call.name}: {UNKNOWN}", "unknown", call.name, ran=False))
        else:
            await send.say(ToolReturned(call.id, text, "aborted" if cancelled else "skipped", call.name, ran=False))


def in_doubt(send: Send, call: ToolCall) -> bool:
    """It began and may have taken effect, whether or not somebody was asked about it meanwhile."""
    begun = call.id in send.ahead.started and send.effects_of(send.ahead.as_run(call).name) == "once"
    return begun or any(of == call.id and asked.get("kind") == "unknown" for of, asked in send.ahead.questions)


async def _reconciled(send: Send, call: ToolCall, key: str, late: Sequence[LateResult]) -> ToolReturned | None:
    """What the tool itself finds out about the attempt that was cut off."""
    asked, call = call, send.ahead.as_run(call)
    checked = check(send, call)
    if isinstance(checked, str) or (reconcile := checked[0].definition.reconcile) is None:
        return None
    await send.flush()
    tool, arguments = checked
    prepared = Prepared(call, tool, arguments, tool_run(send, asked, tool, key).of_call(late=late), leaves_a_trace=True)
    try:
        value = await _found_out(send, reconcile, prepared)
    except Cut:
        return None
    except Exception as error:  # the tool's own code: when even that fails, the outcome stays unknown
        log.warning("session %s: what became of %s was not found out: %s", send.session_id, call.name, said_by(error))
        return None
    if value is None:
        return None
    if prepared.run.posts:
        send.posts = {**send.posts, call.id: prepared.run.posts}
    content, failed, data = render_result(value)
    return await as_kept(send, ToolReturned(call.id, content, "failed" if failed else "ok", call.name, data, ran=False))


async def _found_out(send: Send, reconcile: Callable[..., Any], prepared: Prepared) -> Any:
    """What ``reconcile`` says. A stop cuts it off; where that came before, it has the time that handlers have then."""
    if send.scope.stop is None:
        with send.scope:
            return await send.ports.threads.ask(reconcile, prepared.run, prepared.arguments)
    async with asyncio.timeout(send.terms.settings.cancel_grace_s):
        return await send.ports.threads.ask(reconcile, prepared.run, prepared.arguments)


def _unknown_text(send: Send, call: ToolCall) -> str:
    stop = send.ahead.stop
    return f"<aborted: {stop.reason or stop.status}> {call.name}: {UNKNOWN}" if stop else f"Outcome unknown. {call.name}: {UNKNOWN}"


def _question(send: Send, call: ToolCall) -> dict[str, object]:
    # The other half of the key: a call that asked something itself may be cut off after it was answered.
    return {
        "interaction_id": "input_" + key_of(send.session_id, send.send_index, send.ahead, call)[16:],
        "tool_call_id": call.id,
        "tool_name": call.name,
        "kind": "unknown",
        "prompt": f"{call.name}: {UNKNOWN}",
        "options": [],
        "metadata": {"arguments": call.arguments},
    }
