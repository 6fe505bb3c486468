"""What a model call brought: the reply as a record, the calls in it, and what it used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, cast

from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import ContextOverflow, LLMError, LLMPermanentError, LLMRetryExhausted, LLMTimeout
from power_loop.contracts.made import made
from power_loop.contracts.messages import ToolCall, estimate_text_tokens
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage, estimate_request_tokens
from power_loop.contracts.outcome import described
from power_loop.contracts.records import ROUNDS, CallCharged, ModelReplied
from power_loop.contracts.text import MAX_KEY_CHARS, wire_name
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.ports import priced
from power_loop.runtime.retry import text_of
from power_loop.runtime.send import Send

# No call uses so many; sums of many calls are far from what a database counts.
MOST_TOKENS = 1 << 40
# What says something of a reply, in words; some servers number their replies.
NAMES = ("think", "finish_reason", "model", "response_id")


def sound(response: LLMResponse, whose: str) -> LLMResponse:
    """``response``, its names as text. Raises `TypeError` where something of it could be neither kept nor shown to a model again."""
    for name in NAMES:
        if not isinstance(value := getattr(response, name), str) and value is not None:
            setattr(response, name, str(value))
    given: Any = response
    response.tool_calls = given.tool_calls or []
    if wrong := _malformed(response):
        raise TypeError(f"the LLMResponse of {whose} has {wrong}")
    return response


def _malformed(response: LLMResponse) -> str | None:
    given: Any = response
    if not isinstance(given.text, str):
        return f"a text of type {type(given.text).__name__}"
    if response.tool_calls and not _are_calls(response.tool_calls):
        return f"tool_calls {response.tool_calls!r:.200}; each is a dict with id, type and function (a dict with name and arguments)"
    if given.token_usage is not None and not _is_usage(given.token_usage):
        return f"token_usage {given.token_usage!r:.200}; an LLMTokenUsage with numbers is wanted"
    if response.provider_blocks is not None and not _has_json(response.provider_blocks):
        return "provider_blocks that are no JSON"
    return None


def _are_calls(given: Any) -> bool:
    calls: Sequence[Any] = cast("Sequence[Any]", given) if isinstance(given, (list, tuple)) else (None,)
    return all(isinstance(call, Mapping) and _is_function(cast("Any", call).get("function")) for call in calls)


def _is_function(given: Any) -> bool:
    function: Any = given or {}
    return isinstance(function, Mapping) and (
        isinstance(arguments := cast("Any", function).get("arguments"), str) or arguments is None or _has_json(arguments)
    )


def _is_usage(given: Any) -> bool:
    if not isinstance(given, LLMTokenUsage):
        return False
    return all(type(number) is int or number is None for number in (given.prompt, given.completion, given.total))


def _has_json(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:  # a foreign object's own code
        return False
    return True


def reply_record(send: Send, response: LLMResponse, charge: CallCharged, digest: str, *, calls: bool = True) -> ModelReplied:
    """The reply as it is stored, with what it cost; without its ``calls`` where none may follow from it."""
    purpose, usage, _, model = charge
    asked = asked_calls(response.tool_calls, send) if response.tool_calls and calls and purpose in ROUNDS else ()
    finish = response.finish_reason or ("tool_calls" if asked else "stop")
    return made(ModelReplied, (
        response.text, asked, purpose, usage, finish, model, response.response_id, digest, response.think, response.provider_blocks,
    ))  # fmt: skip


def charge_for(send: Send, response: LLMResponse, purpose: str, request: LLMRequest) -> CallCharged:
    """What the call that brought ``response`` cost."""
    usage = priced(send.terms.settings, usage_of(response, request), response.model, asked_model(send, request))
    return made(CallCharged, (purpose, usage, None, response.model or request.model))


def asked_model(send: Send, request: LLMRequest) -> str | None:
    """Which model ``request`` is for: its own, else the service's."""
    return request.model or getattr(send.ports.model, "model", None)


def asked_calls(raw: Sequence[Mapping[str, Any]], send: Send) -> tuple[ToolCall, ...]:
    """The calls of a reply, each with an id that no other call of the session has and a name that providers take back."""
    calls: dict[str, ToolCall] = {}
    given = {str(call.get("id") or "") for call in raw}
    for at, call in enumerate(raw):
        function = cast("Mapping[str, Any]", call.get("function") or {})
        arguments = function.get("arguments") or ""
        call_id = str(call.get("id") or "")
        taken = send.window.knows_call(call_id) or call_id in calls
        if taken or not 0 < len(call_id) <= MAX_KEY_CHARS or not call_id.isprintable():
            call_id = _free_id(f"call_{send.send_index}_{send.ahead.rounds}_{at}", send, given)
        name = wire_name(str(function.get("name") or "unnamed"))
        calls[call_id] = ToolCall(call_id, name, arguments if isinstance(arguments, str) else dumps(arguments))
    return tuple(calls.values())


def _free_id(wanted: str, send: Send, given: Collection[str]) -> str:
    """``wanted``, or what comes after it, so that no other call has it: neither of the reply nor of the session."""
    numbers = count(2)
    free = wanted
    while free in given or send.window.knows_call(free):
        free = f"{wanted}_{next(numbers)}"
    return free


def usage_of(response: LLMResponse, request: LLMRequest) -> CallUsage:
    """What the provider reported, else our estimate, also for numbers that cannot be; never another call's numbers."""
    usage = response.token_usage
    if usage is not None and not (usage.prompt is None and usage.completion is None and usage.total is None):
        told = usage.for_call()
        if _may_be(told):
            return told
    return estimated(request, response.text + "".join(map(dumps, response.tool_calls)))


def _may_be(usage: CallUsage) -> bool:
    """One below 0 would give back what others used, and one beyond any model ends what databases can add up."""
    prompt, completion, cache_read, cache_write, reasoning, _, cost, _ = usage
    for tokens in (prompt, completion, cache_read, cache_write, reasoning):
        if type(tokens) is not int or not 0 <= tokens < MOST_TOKENS:
            return False
    return cost is None or (type(cost) in (int, float) and 0 <= cost < MOST_TOKENS)


def estimated(request: LLMRequest, reply: str) -> CallUsage:
    """Roughly what a call used when the provider does not say."""
    return CallUsage(estimate_request_tokens(request), estimate_text_tokens(reply), calls=1, estimated=True)


def degrade(send: Send, error: LLMError) -> None:
    """Note that the model failed: a row for people, and the end of the send."""
    reason = "permanent" if isinstance(error, LLMPermanentError) else "timeout" if isinstance(error, LLMTimeout) else "retry_exhausted"
    reason = "context_overflow" if isinstance(error, ContextOverflow) else reason
    last = error.__cause__ or error
    kind, text = type(last).__name__, text_of(last)
    attempts = error.attempts if isinstance(error, (LLMTimeout, LLMRetryExhausted)) else 1
    send.error = described(error)
    send.teller.say("llm_degraded", reason=reason, attempts=attempts, error_type=kind, error_message=text[:500])
    send.note(ModelReplied(f"[degraded: LLM {reason} — {kind}: {text[:200]}]", purpose="degraded"))
