"""One model call of a send: the request, its attempts, and the reply as a record."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from power_loop.context.prompt import system_text
from power_loop.contracts.digest import RequestDigest
from power_loop.contracts.effects import CallModel
from power_loop.contracts.errors import CancellationRequested, ContextOverflow, LLMError, LLMPermanentError, LLMTimeout
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import Message, ToolCall, estimate_text_tokens, estimate_tokens
from power_loop.contracts.model import UNKNOWN_CAPABILITIES, LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.records import CallCharged, ModelReplied
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.asking import STOPPING, ask, stopped_by
from power_loop.runtime.cancel import Cut
from power_loop.runtime.ports import priced
from power_loop.runtime.retry import as_llm_error, with_retry
from power_loop.runtime.rounds import open_round
from power_loop.runtime.send import Send

# What every provider takes as a function name (platform.openai.com, docs.anthropic.com: the same pattern).
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


class Attempt:
    """What one attempt showed before it ended: the pieces of text, for listeners and for the ledger."""

    __slots__ = ("call_id", "number", "send", "started", "text")

    def __init__(self, send: Send, number: int) -> None:
        self.send, self.number = send, number
        self.call_id = f"r{send.ahead.rounds}.a{number}"
        self.text: list[str] = []
        self.started = send.ports.clock.monotonic()

    def hear(self, text: str) -> None:
        self.text.append(text)
        self.send.teller.say("stream_delta", stream_id="main", text=text, is_think=False)

    def hear_thought(self, text: str) -> None:
        self.send.teller.say("stream_think_delta", stream_id="main", text=text, is_think=True)


async def call_model(send: Send, effect: CallModel) -> None:
    """The next round's reply."""
    if await open_round(send):
        reminder: list[Message] = [{"role": "user", "content": effect.reminder}] if effect.reminder else []
        await ask_model(send, "round", reminder)


async def ask_model(send: Send, purpose: str, tail: Sequence[Message] = (), tool_choice: str | None = None) -> None:
    """Ask, and note what came of it: a reply, or the charge for a call that left none and why the send stops.

    Raises `LLMError` when the model failed and no retry policy says that this is data.
    """
    await send.flush()
    request = request_of(send, tail, tool_choice)
    given = await _before(send, request, purpose) if send.ports.hooks.stands("llm.before") else None
    if given is True:
        return
    digest = digest_of(send, request, tail)
    try:
        response = given or await _reply(send, request, purpose)
    except Cut:
        return
    except LLMError as error:
        if send.terms.settings.retry is None:
            raise
        degrade(send, error)
        return
    if given is None and send.ports.hooks.stands("llm.after"):
        response, stop = await _after(send, response)
        await send.say(reply_record(send, response, purpose, digest, request, calls=stop is None))
        if stop is not None:
            send.note(stop)
        return
    await send.say(reply_record(send, response, purpose, digest, request))


# --- the request --------------------------------------------------------------------------------


def request_of(send: Send, tail: Sequence[Message] = (), tool_choice: str | None = None) -> LLMRequest:
    """The window under the send's terms, with ``tail`` (ephemeral) behind it."""
    settings, terms = send.terms.settings, send.terms
    tools = terms.tools.to_openai_tools() if terms.tools is not None else []
    native = (getattr(send.ports.model, "capabilities", None) or UNKNOWN_CAPABILITIES).tools is not False
    return LLMRequest(
        [*send.window.messages, *tail],
        send.system_text,
        settings.model,
        settings.temperature,
        settings.max_tokens,
        tools=tools if tools and native else None,
        tool_choice=tool_choice if tools and native else None,
        response_format=settings.response_format,
        session_id=send.session_id,
        retry_in_transport=settings.retry is None,
    )


def system_text_of(send: Send, explicit: str | None) -> str:
    """The system prompt of this send's requests."""
    settings, tools = send.terms.settings, send.terms.tools
    capabilities = getattr(send.ports.model, "capabilities", None) or UNKNOWN_CAPABILITIES
    listed = settings.catalog if settings.catalog is not None else capabilities.tools is False
    catalog = tools.to_openai_tools() if listed and tools is not None else None
    return system_text(settings.system_prompt if explicit is None else explicit, catalog=catalog, header=settings.catalog_header)


def digest_of(send: Send, request: LLMRequest, tail: Sequence[Message]) -> str:
    """The digest of ``request``; the window's part of it is hashed once, however many requests begin with it."""
    shown, known = request.messages, len(send.window.messages)
    untouched = len(shown) == known + len(tail) and (not known or shown[known - 1] is send.window.messages[-1])
    digest = send.window.digest() if untouched else RequestDigest()
    for message in shown[known:] if untouched else shown:
        digest.message(message)
    digest.head(request.system_prompt, request.model, request.tools)
    digest.settings(request)
    return digest.text()


# --- attempts -------------------------------------------------------------------------------------


async def _reply(send: Send, request: LLMRequest, purpose: str) -> LLMResponse:
    """The reply, tried as often as the policy says. Raises `LLMError`, or `Cut` when the send was stopped."""
    attempts: list[Attempt] = []

    async def once() -> LLMResponse:
        attempt = Attempt(send, len(attempts) + 1)
        attempts.append(attempt)
        return await _attempt(send, request, attempt, purpose)

    policy = send.terms.settings.retry
    if policy is None:
        return await once()

    def on_retry(number: int, error: BaseException, wait: float) -> None:
        told = {"error_type": type(error).__name__, "error_message": str(error)[:500], "next_sleep_seconds": wait}
        send.teller.say("llm_retry_attempted", attempt=number, max_attempts=policy.max_attempts, **told)

    with send.scope:
        return await with_retry(once, policy=policy, on_retry=on_retry, clock=send.ports.clock, ids=send.ports.ids)


async def _attempt(send: Send, request: LLMRequest, attempt: Attempt, purpose: str) -> LLMResponse:
    """One call on the wire, with its events in pairs; a call that fails or is cut off is charged all the same."""
    call = {
        "call_id": attempt.call_id,
        "round_index": send.teller.round_index,
        "attempt": attempt.number,
        "model": request.model or send.ports.model.model,
    }
    tell = send.teller.say
    tell("llm_call_started", **call)
    tell("stream_started", stream_id="main", call_id=attempt.call_id)
    request.call_id = attempt.call_id
    try:
        response = await _complete(send, request, attempt)
    except BaseException as error:
        usage = estimated(request, "".join(attempt.text))
        send.partial_text = "".join(attempt.text)
        why = "cancelled" if isinstance(error, (Cut, asyncio.CancelledError)) else type(error).__name__
        send.note(CallCharged(purpose, priced(send.terms.settings, request.model, usage), why, request.model))
        tell("stream_completed", stream_id="main", call_id=attempt.call_id, aborted=True)
        tell("llm_call_completed", **call, duration_ms=_since(send, attempt), success=False, error_type=why, **_counted(usage))
        raise
    send.partial_text = ""
    usage = usage_of(response, request)
    tell("stream_completed", stream_id="main", call_id=attempt.call_id)
    finish = response.finish_reason
    tell("llm_call_completed", **call, duration_ms=_since(send, attempt), success=True, finish_reason=finish, **_counted(usage))
    return response


async def _complete(send: Send, request: LLMRequest, attempt: Attempt) -> LLMResponse:
    """The model itself. What it raises leaves here as `LLMError`, as a cut, or as the caller's own cancellation."""
    if send.terms.settings.retry is not None:
        return await _asked(send, request, attempt)
    try:
        with send.scope:
            return await _asked(send, request, attempt)
    except (Cut, LLMError, CancellationRequested):
        raise
    except Exception as error:
        raise as_llm_error(error) from error


async def _asked(send: Send, request: LLMRequest, attempt: Attempt) -> LLMResponse:
    model = send.ports.model
    complete: Callable[..., Awaitable[LLMResponse]] | None = getattr(model, "complete", None)
    if complete is not None:
        return await complete(request, on_chunk_delta_text=attempt.hear, on_chunk_think=attempt.hear_thought)
    return await streamed(model.stream(request), attempt)


async def streamed(chunks: Any, attempt: Attempt) -> LLMResponse:
    """The whole reply of a model that only streams."""
    response = LLMResponse()
    async for chunk in chunks:
        if chunk.delta_text:
            attempt.hear(chunk.delta_text)
        if chunk.think:
            attempt.hear_thought(chunk.think)
            response.think += chunk.think
        response.tool_calls = chunk.tool_calls or response.tool_calls
        response.token_usage = chunk.token_usage or response.token_usage
        response.finish_reason = chunk.finish_reason or response.finish_reason
        response = chunk.response or response
    if not response.content_text:
        response.content_text = "".join(attempt.text)
    return response


# --- what came back -----------------------------------------------------------------------------------


def reply_record(send: Send, response: LLMResponse, purpose: str, digest: str, request: LLMRequest, *, calls: bool = True) -> ModelReplied:
    """The reply as it is stored."""
    asked = asked_calls(response.tool_calls, send) if calls and purpose == "round" else ()
    model = response.model or request.model
    usage = priced(send.terms.settings, model, usage_of(response, request))
    finish = response.finish_reason or ("tool_calls" if asked else "stop")
    return ModelReplied(
        response.text, asked, purpose, usage, finish, model, response.response_id, digest, response.think, response.provider_blocks
    )


def asked_calls(raw: Sequence[dict[str, Any]], send: Send) -> tuple[ToolCall, ...]:
    """The calls of a reply, each with an id that no other call of the session has and a name that providers take back."""
    calls: list[ToolCall] = []
    for at, call in enumerate(raw):
        function = call.get("function") or {}
        name, arguments = str(function.get("name") or "unnamed"), function.get("arguments") or ""
        call_id = str(call.get("id") or "")
        if (
            not call_id
            or len(call_id) > 191
            or not call_id.isprintable()
            or send.window.knows_call(call_id)
            or any(c.id == call_id for c in calls)
        ):
            call_id = f"call_{send.send_index}_{send.ahead.rounds}_{at}"
        text = arguments if isinstance(arguments, str) else _json(arguments)
        calls.append(ToolCall(call_id, NOT_IN_A_NAME.sub("_", name)[:64], text))
    return tuple(calls)


def _json(value: Any) -> str:
    from power_loop.contracts.codec import dumps

    return dumps(value)


def usage_of(response: LLMResponse, request: LLMRequest) -> CallUsage:
    """What the provider reported, else our estimate; never another call's numbers."""
    usage = response.token_usage
    if usage is None or (usage.prompt is None and usage.completion is None and usage.total is None):
        return estimated(request, response.text + "".join(_json(call) for call in response.tool_calls))
    return usage.for_call() if isinstance(usage, LLMTokenUsage) else CallUsage(calls=1)


def estimated(request: LLMRequest, reply: str) -> CallUsage:
    """Roughly what a call used when the provider does not say."""
    tools = estimate_text_tokens(_json(request.tools)) if request.tools else 0
    prompt = estimate_text_tokens(request.system_prompt or "") + estimate_tokens(request.messages) + tools
    return CallUsage(prompt, estimate_text_tokens(reply), calls=1, estimated=True)


def degrade(send: Send, error: LLMError) -> None:
    """Note that the model failed: a row for people, and the end of the send."""
    reason = "permanent" if isinstance(error, LLMPermanentError) else "timeout" if isinstance(error, LLMTimeout) else "retry_exhausted"
    reason = "context_overflow" if isinstance(error, ContextOverflow) else reason
    last = error.__cause__ or error
    text = f"[degraded: LLM {reason} — {type(last).__name__}: {str(last)[:200]}]"
    send.error = {"code": error.code, "type": type(error).__name__, "message": str(error)}
    attempts = getattr(error, "attempts", 1)
    send.teller.say("llm_degraded", reason=reason, attempts=attempts, error_type=type(last).__name__, error_message=str(last)[:500])
    send.note(ModelReplied(text, purpose="degraded"))


def _counted(usage: CallUsage) -> dict[str, Any]:
    counts = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.total}
    return {**counts, "estimated": usage.estimated}


def _since(send: Send, attempt: Attempt) -> int:
    return round((send.ports.clock.monotonic() - attempt.started) * 1000)


# --- hooks --------------------------------------------------------------------------------------------


async def _before(send: Send, request: LLMRequest, purpose: str) -> LLMResponse | bool | None:
    """Let the handlers shape the request: a reply when they give one, True when they stop the send, else None."""
    context = await ask(
        send, "llm.before", messages=request.messages, system_prompt=request.system_prompt, tools=request.tools,
        max_tokens=request.max_tokens, temperature=request.temperature, model=request.model,
        response_format=request.response_format, purpose=purpose, output=None,
    )  # fmt: skip
    if context.directive in STOPPING:
        stop = stopped_by("llm.before", context)
        assert stop is not None
        send.note(stop)
        return True
    if context.directive == HookDirective.SHORT_CIRCUIT:
        if not isinstance(context.output, LLMResponse):
            raise ValueError("a handler at llm.before gave SHORT_CIRCUIT without an LLMResponse in ctx.output")
        return context.output
    request.messages = context.adopted() or request.messages
    request.system_prompt, request.tools, request.model = context.system_prompt, context.tools, context.model
    request.max_tokens, request.temperature, request.response_format = context.max_tokens, context.temperature, context.response_format
    return None


async def _after(send: Send, response: LLMResponse) -> tuple[LLMResponse, Any]:
    """Let the handlers see and replace the reply: what stands, and the stop that they asked for."""
    context = await ask(send, "llm.after", messages=send.window.messages, output=response)
    return context.output if isinstance(context.output, LLMResponse) else response, stopped_by("llm.after", context)
