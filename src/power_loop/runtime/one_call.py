"""One tool call: may it run, with which arguments, and what comes of it.

A handler is called once per dispatch. What it raises is a result that the model reads; arguments that break the
schema never reach it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from power_loop.contracts.children import Unreached
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import HumanInputRequired, ModelRetry, ToolTimeout
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import Outcome, Record, StopRequested, ToolParked, ToolReturned
from power_loop.contracts.results import render_result
from power_loop.contracts.store import Post
from power_loop.contracts.tool import Tool, ToolRun
from power_loop.contracts.usage import Usage
from power_loop.kernel.call_keys import idempotency_key, parsed
from power_loop.kernel.state import State
from power_loop.runtime.approvals import may_start
from power_loop.runtime.asking import STOPPING, answer_of, ask, stopped_by
from power_loop.runtime.cancel import being_cancelled
from power_loop.runtime.late import keep_late
from power_loop.runtime.long_results import as_kept
from power_loop.runtime.model_retry import asked_again, not_again, tries_left
from power_loop.runtime.send import Send


@dataclass(slots=True)
class Prepared:
    """A call that may run: checked, asked about, with what its handler is handed."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]
    run: ToolRun
    leaves_a_trace: bool
    """A started record is written before it runs."""
    rewritten: tuple[str | None, str | None] = (None, None)
    beforehand: tuple[Post, ...] = ()
    """Words that the rule for approvals left: they stand however often the handler is tried."""
    stop: StopRequested | None = None
    """A handler asked for the end of the send after this call."""
    is_left: bool = False
    """Its handler would not be cancelled, and the send went on without it."""

    @property
    def is_async(self) -> bool:
        return self.tool.is_async


def is_stopping(send: Send) -> bool:
    """No call is begun any more, nor tried again."""
    return send.scope.stop is not None or send.ahead.stop is not None


def runs_side_by_side(send: Send, name: str) -> bool:
    tool = send.terms.tools.get(name) if send.terms.tools is not None else None
    return tool is None or tool.definition.parallel is not False


# --- before it runs ---------------------------------------------------------------------------------


async def prepare(send: Send, asked: ToolCall, position: int) -> Prepared | None:
    """``asked``, the round's call at ``position``, ready to run; None when it is answered already, or the send stops."""
    if is_stopping(send):
        return None
    call = send.ahead.as_run(asked)
    checked = check(send, call)
    rewritten: tuple[str | None, str | None] = (None, None)
    if isinstance(checked, tuple) and call is asked and "tool.before" in send.ports.hooks.standing:
        shaped = await _before(send, call, *checked)
        if shaped is None:
            return None
        if shaped != call:
            call, rewritten = shaped, (shaped.name, shaped.arguments)
            checked = check(send, call)
    if isinstance(checked, str):
        await send.say(await as_kept(send, ToolReturned(asked.id, checked, "failed", call.name, ran=False)))
        return None
    tool, arguments = checked
    if send.ahead.retried and tries_left(send, tool.definition) < 0:
        await send.say(not_again(asked.id, tool.definition))
        return None
    key = idempotency_key(send.session_id, send.send_index, max(0, send.ahead.rounds - 1), position, asked)
    run, rule = tool_run(send, asked, tool, key), tool.definition.needs_approval
    if rule is not False and not await may_start(send, call, rule, run, arguments, rewritten=rewritten[0] is not None):
        return None
    once = (tool.definition.effects or send.terms.settings.default_effects) == "once"
    return Prepared(call, tool, arguments, run, once or rewritten[0] is not None, rewritten, tuple(run.posts))


def check(send: Send, call: ToolCall) -> tuple[Tool, dict[str, Any]] | str:
    """The tool and its arguments, or what the model is told is wrong with them."""
    tools = send.terms.tools
    tool = tools.get(call.name) if tools is not None else None
    if tools is None or tool is None:
        names = ", ".join(tools.names()) if tools is not None else ""
        return f"Error: there is no tool named {call.name!r}. Tools on offer: {names or 'none'}."
    if not call.arguments and send.ahead.finish_reason == "length":
        return f"Error: the reply was cut off before the arguments of {call.name}. The tool was not called; send the call again."
    try:
        arguments = parsed(call.arguments)
        violations = tool.violations(cast("dict[str, Any]", arguments)) if isinstance(arguments, dict) else None
    except (ValueError, RecursionError) as error:
        way_out = "The tool was not called; send the call again with one JSON object."
        return f"Error: the arguments of {call.name} are not valid JSON ({error}). {way_out}"
    if not isinstance(arguments, dict):
        return f"Error: the arguments of {call.name} must be one JSON object, not {type(arguments).__name__}. The tool was not called."
    if violations is not None:
        return f"Error: the arguments of {call.name} are invalid and the tool was not called.\n{violations}"
    return tool, cast("dict[str, Any]", arguments)


async def _before(send: Send, call: ToolCall, tool: Tool, arguments: Mapping[str, Any]) -> ToolCall | None:
    """The call as the handlers at ``tool.before`` want it; None when they answered it themselves."""
    await send.flush()
    fields = {"tool_call": call.to_message(), "tool_name": call.name, "tool_args": dict(arguments)}
    try:
        context = await ask(send, "tool.before", **fields, output=None)
    except ModelRetry as asked:
        await send.say(asked_again(send, call.id, tool.definition, asked, ran=False))
        return None
    if context.directive == HookDirective.SKIP or context.directive in STOPPING:
        told = answer_of(context, "tool.before", f"[skipped by a hook: {call.name} was not run]")
        await send.say(ToolReturned(call.id, told, "skipped", call.name, ran=False))
        if stop := stopped_by("tool.before", context):
            send.note(stop)
        return None
    if context.tool_name == call.name and context.tool_args == arguments:
        return call
    return ToolCall(call.id, context.tool_name, dumps(context.tool_args))


def tool_run(send: Send, asked: ToolCall, tool: Tool, key: str) -> ToolRun:
    """What the handler may know of where it runs."""
    state = send.ahead
    base, tools = send.terms.tool_run or ToolRun(), send.terms.tools

    def tell(kind: str, told: Mapping[str, Any]) -> None:
        send.teller.say(kind, **told)

    return base.of_call(
        session_id=send.session_id, call_id=asked.id, tool_name=tool.definition.name, send_index=send.send_index,
        round_index=max(0, state.rounds - 1), idempotency_key=key,
        depth=send.terms.depth, deps=send.terms.deps, cancel=send.scope.token, tell=tell, answered=answered(state, asked.id),
        usage=Usage.of(state.usage, tool_calls=state.tool_calls),
        attempt=1 + (asked.id in state.started), tools=tools, closes=[], posts=[],
    )  # fmt: skip


def answered(state: State, call_id: str) -> tuple[dict[str, Any], ...]:
    """What this call asked for its own use, with the answers, in order."""
    if not state.answers:
        return ()
    asked = {question["interaction_id"]: question for of, question in state.questions if of == call_id}
    heard = [(asked[interaction], answer) for of, interaction, answer in state.answers if of == call_id]
    return tuple({"state": question.get("state"), "answer": answer} for question, answer in heard)


# --- while and after it runs ---------------------------------------------------------------------------


async def run_one(send: Send, prepared: Prepared) -> Record:
    """Call the handler; the record that answers, or parks, the call."""
    call, clock = prepared.call, send.ports.clock
    send.teller.say("tool_call_started", name=call.name, tool_input=prepared.arguments, tool_call_id=prepared.run.call_id)
    started = clock.monotonic()
    record = await _outcome(send, prepared)
    if not isinstance(record, ToolReturned):
        return record
    record = record._replace(duration_ms=round((clock.monotonic() - started) * 1000))
    if "tool.after" in send.ports.hooks.standing:
        record = await _after(send, prepared, record)
    return await as_kept(send, record)


async def _outcome(send: Send, prepared: Prepared) -> Record:
    """What the handler gave or raised, as a record; with one more try when a handler at ``tool.error`` wants it."""
    call_id, name = prepared.run.call_id, prepared.call.name
    try:
        value = await _waited_for(send, prepared)
    except KeyboardInterrupt:
        raise  # of the host's user, not of the handler: the process is being stopped
    except asyncio.CancelledError:
        if send.scope.stop is None and not prepared.is_left and not being_cancelled():
            return cancelled_itself(prepared)
        raise
    except HumanInputRequired as asked:
        return _parked(prepared, asked)
    except ModelRetry as asked:
        return asked_again(send, call_id, prepared.tool.definition, asked)
    except Unreached as away:
        raise away.error from away.error.__cause__
    except BaseException as error:  # the tool's own code: whatever it raises is told to the model
        return await _failed(send, prepared, error)
    content, failed, data = render_result(value)
    return ToolReturned(call_id, content, "failed" if failed else "ok", name, data)


async def _waited_for(send: Send, prepared: Prepared) -> Any:
    """What the handler gives or raises, while the send waits for it."""
    try:
        value = await _call(send, prepared)
    except BaseException as error:  # the tool's own code
        if prepared.is_left and not isinstance(error, KeyboardInterrupt):
            await _was_left(send, prepared, None, error)
        raise
    if prepared.is_left:
        await _was_left(send, prepared, value, None)
    return value


async def _was_left(send: Send, prepared: Prepared, value: Any, error: BaseException | None) -> None:
    """The send went on without the handler: what it came to is evidence. Raises the `CancelledError` that it swallowed."""
    if not isinstance(error, (asyncio.CancelledError, ToolTimeout)):  # these cut it off: nobody knows what it came to
        await _came_late(send, prepared, value, error)
    raise asyncio.CancelledError


async def _call(send: Send, prepared: Prepared) -> Any:
    timeout_s = prepared.tool.definition.timeout_s or send.terms.settings.tool_timeout_s
    if timeout_s is None:
        return await _value(send, prepared)
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await _value(send, prepared)
    except TimeoutError as error:
        if limit.expired():
            raise ToolTimeout(prepared.call.name, timeout_s) from error
        raise


async def _value(send: Send, prepared: Prepared) -> Any:
    """What the handler gives: an async one in this task, a synchronous one in a thread."""
    if prepared.is_async:
        return await prepared.tool.call(prepared.run, prepared.arguments)
    late = partial(_came_late, send, prepared)
    value = await send.ports.threads.run(lambda: prepared.tool.call(prepared.run, prepared.arguments), late)
    return await value if inspect.isawaitable(value) else value


async def _came_late(send: Send, prepared: Prepared, value: Any, error: BaseException | None) -> None:
    """What the handler gave or raised when nobody waited for it any more."""
    if inspect.isawaitable(value):  # only its beginning ran in the thread
        if callable(close := getattr(value, "close", None)):
            close()
        return
    content, failed, data = render_result(value) if error is None else (f"Error: {said_by(error)}", True, None)
    record = ToolReturned(prepared.run.call_id, content, "failed" if failed else "ok", prepared.call.name, data)
    await keep_late(send, record, prepared.run.idempotency_key)


async def _failed(send: Send, prepared: Prepared, error: BaseException) -> Record:
    call_id, name = prepared.run.call_id, prepared.call.name
    text = f"Error: {said_by(error)}"
    outcome: Outcome = "failed"
    if isinstance(error, ToolTimeout):
        going_on = "" if prepared.is_async else " It could not be stopped and is still running."
        outcome = "unknown" if send.effects_of(name) == "once" else "failed"
        text = f"Error: {error}.{going_on}" + (
            " It may or may not have taken effect: check before you repeat it." if outcome == "unknown" else ""
        )
    if "tool.error" in send.ports.hooks.standing:
        fields = {"tool_call": prepared.call.to_message(), "tool_name": name, "tool_args": dict(prepared.arguments)}
        try:
            context = await ask(send, "tool.error", **fields, error=error, error_message=text, output=None)
        except ModelRetry as asked:
            return asked_again(send, call_id, prepared.tool.definition, asked)
        if context.directive == HookDirective.SKIP:
            return ToolReturned(call_id, answer_of(context, "tool.error", text), "ok", name)
        if context.directive == HookDirective.SHORT_CIRCUIT and prepared.run.attempt == 1 and not is_stopping(send):
            prepared.run = prepared.run.of_call(attempt=2, posts=list(prepared.beforehand))
            return await _outcome(send, prepared)
    return ToolReturned(call_id, text, outcome, name)


def said_by(error: BaseException) -> str:
    """``TYPE: message``. A coroutine wraps a StopIteration in an error of its own; the tool's is meant."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        error = error.__cause__
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # the exception's own code
        return f"{type(error).__name__} (it has no readable message)"


async def _after(send: Send, prepared: Prepared, record: ToolReturned) -> ToolReturned:
    """The result as the handlers at ``tool.after`` leave it."""
    fields = {"tool_call": prepared.call.to_message(), "tool_name": prepared.call.name, "tool_args": dict(prepared.arguments)}
    try:
        context = await ask(send, "tool.after", **fields, output=record.output, failed=record.outcome == "failed", outcome=record.outcome)
    except ModelRetry as asked:
        return asked_again(send, record.call_id, prepared.tool.definition, asked)._replace(duration_ms=record.duration_ms)
    prepared.stop = stopped_by("tool.after", context)
    outcome: Outcome = record.outcome
    if context.failed != (record.outcome == "failed"):
        outcome = "failed" if context.failed else "ok"
    content, _, _ = render_result(context.output)
    return record._replace(output=content, outcome=outcome, retry=record.retry and outcome == "failed")


def cancelled_itself(prepared: Prepared) -> ToolReturned:
    """The answer for a handler that ended by a cancel of its own, be it raised or asked for of the task that it runs in."""
    return ToolReturned(prepared.run.call_id, "Error: the handler cancelled itself", "failed", prepared.call.name)


def still_running(prepared: Prepared) -> ToolReturned:
    """The answer for a handler that the send could not wait for."""
    text = f"{prepared.call.name} could not be stopped and is still running: its outcome is unknown. Check before you repeat it."
    return ToolReturned(prepared.run.call_id, text, "unknown", prepared.call.name)


def _parked(prepared: Prepared, asked: HumanInputRequired) -> Record:
    """The question, if it can be kept until someone answers it."""
    interaction, name = interaction_of(asked, prepared), prepared.call.name
    try:
        dumps(interaction)
    except (TypeError, ValueError, RecursionError) as error:
        return ToolReturned(prepared.run.call_id, f"Error: the question that {name} asks has no JSON: {error}", "failed", name)
    return ToolParked(prepared.run.call_id, interaction)


def interaction_of(asked: HumanInputRequired, prepared: Prepared) -> dict[str, Any]:
    """The question that parks the call; its id is the same on every attempt, and another for every question of the call."""
    earlier = len(prepared.run.answered)
    state = {} if asked.state is None else {"state": asked.state}
    return {
        "interaction_id": "input_" + prepared.run.idempotency_key[:16] + (f"_{earlier + 1}" if earlier else ""),
        "tool_call_id": prepared.run.call_id,
        "tool_name": prepared.call.name,
        "kind": asked.kind,
        "prompt": asked.prompt,
        "options": asked.options,
        "metadata": asked.metadata,
        **state,
    }
