"""One model call of a send: the request, its attempts, and the reply as a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from power_loop.contracts.digest import RequestDigest
from power_loop.contracts.effects import CallModel
from power_loop.contracts.errors import LLMError
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import Message
from power_loop.contracts.model import LLMRequest, LLMResponse, capabilities_of
from power_loop.contracts.records import ROUNDS, CallCharged, StopRequested
from power_loop.contracts.usage import NO_USAGE
from power_loop.runtime.asking import STOPPING, ask, stopped_by
from power_loop.runtime.attempt import reply_to
from power_loop.runtime.cancel import Cut
from power_loop.runtime.fold_context import makes_room
from power_loop.runtime.projecting import NOTHING_SHOWN, projected
from power_loop.runtime.reply import charge_for, degrade, reply_record, sound
from power_loop.runtime.rounds import begin_round, close_round, may_start
from power_loop.runtime.send import Send
from power_loop.runtime.spilling import spill
from power_loop.runtime.steer import hear_steering


async def call_model(send: Send, effect: CallModel) -> None:
    """The next round's reply."""
    if send.round_open:
        await close_round(send)
    send.teller.round_index = send.ahead.rounds
    if "round.start" in send.ports.hooks.standing and not await may_start(send):
        return
    begin_round(send)
    reminder: list[Message] = [{"role": "user", "content": effect.reminder}] if effect.reminder else []
    await ask_model(send, effect.purpose, reminder)


async def ask_model(send: Send, purpose: str, tail: Sequence[Message] = (), tool_choice: str | None = None) -> None:
    """Ask, and note what came of it: a reply, or the charge for a call that left none and why the send stops.

    Raises `LLMError` when the model failed and no retry policy says that this is data.
    """
    await (send.flush() if send.books is None else send.books.may_call(send, purpose))
    if send.ahead.stop is not None:  # heard just now, or refused: no call is paid for that nobody waits for
        return
    shown = await projected(send) if send.terms.projectors else NOTHING_SHOWN
    if shown is None:
        return
    tail = [*shown.messages, *tail] if shown.messages else tail
    request = request_of(send, tail, tool_choice)
    if purpose == "limit_summary" and send.terms.output is not None:  # it is told in words, not in the form of an answer
        request.response_format = None
    if send.terms.settings.spill is not None:
        await spill(send, request)
    given = await _before(send, request, purpose) if "llm.before" in send.ports.hooks.standing else None
    if given is True:
        return
    digest = digest_of(send, request, tail)
    if given is not None:  # what a handler gave in the model's place cost nothing
        await send.say(reply_record(send, given, CallCharged(purpose, NO_USAGE, model=given.model), digest))
        return
    if send.terms.settings.keep_requests:
        await _keep_whole(send, request, digest)
    response = await _answer_to(send, request, purpose)
    if response is not None:
        await _keep(send, response, charge_for(send, response, purpose, request), digest)
        send.seen_jobs = shown.seen_jobs


async def _answer_to(send: Send, request: LLMRequest, purpose: str) -> LLMResponse | None:
    """What the model said. None where a word cut it off, where room is made to ask again, and where its failure is data."""
    try:
        return await reply_to(send, request, purpose)
    except Cut:
        await hear_steering(send)
    except LLMError as error:
        if not (purpose in ROUNDS and makes_room(send, error)):
            if send.terms.settings.retry is None:
                raise
            degrade(send, error)
    return None


async def _keep(send: Send, response: LLMResponse, charge: CallCharged, digest: str) -> None:
    """Note the reply, as the handlers leave it."""
    stop: StopRequested | None = None
    try:
        if "llm.after" in send.ports.hooks.standing:
            response, stop = await _after(send, response)
        await send.say(reply_record(send, response, charge, digest, calls=stop is None))
    except BaseException as error:  # of a handler; the call was made all the same
        send.note(charge._replace(error=type(error).__name__))
        raise
    if stop is not None:
        send.note(stop)


# --- the request --------------------------------------------------------------------------------


def request_of(send: Send, tail: Sequence[Message] = (), tool_choice: str | None = None) -> LLMRequest:
    """The window under the send's terms, with ``tail`` (ephemeral) behind it."""
    settings, terms = send.terms.settings, send.terms
    tools = terms.tools.to_openai_tools() if terms.tools is not None else []
    native = capabilities_of(send.ports.model).tools is not False
    # By position: names cost several times as much.
    request = LLMRequest(
        [], terms.system_text, settings.model, settings.temperature, settings.max_tokens, False, None,
        tools if tools and native else None, tool_choice if tools and native else None, terms.response_format,
        {}, None, send.session_id, settings.retry is None,
    )  # fmt: skip
    return request.showing(send.window.snapshot(tail))


async def _keep_whole(send: Send, request: LLMRequest, digest: str) -> None:
    """Keep all that is about to be sent; before it is, so that no reply names what is not there."""
    from power_loop.contracts.kept_requests import packed  # most loops keep no requests

    data = await send.ports.threads.run(lambda: packed(request))
    await send.ports.log.keep_request(send.session_id, digest, data)


def digest_of(send: Send, request: LLMRequest, tail: Sequence[Message]) -> str:
    """The digest of ``request``; the window's part of it is hashed once, however many requests begin with it."""
    window = send.window
    if request.unseen:
        digest, rest = window.digest(), tail
    elif send.terms.settings.spill is None and _begins_with(request.messages, window.messages):
        digest, rest = window.digest(), request.messages[len(window.messages) :]
    else:
        digest, rest = RequestDigest(), request.messages
    return digest.text(rest, send.ports.closings.of(request))


def _begins_with(shown: Sequence[Message], known: Sequence[Message]) -> bool:
    """``shown`` is ``known``, perhaps with more behind it: a handler that changes messages works on copies."""
    return len(shown) >= len(known) and (not known or shown[len(known) - 1] is known[-1])


# --- hooks --------------------------------------------------------------------------------------------


async def _before(send: Send, request: LLMRequest, purpose: str) -> LLMResponse | Literal[True] | None:
    """Let the handlers shape the request: a reply when they give one, True when they stop the send, else None."""
    context = await ask(
        send, "llm.before", messages=request.messages, system_prompt=request.system_prompt, tools=request.tools,
        max_tokens=request.max_tokens, temperature=request.temperature, model=request.model,
        response_format=request.response_format, purpose=purpose, output=None, run=send.session.head.epoch,
        memory_of=send.terms.memory_of,
    )  # fmt: skip
    if context.directive in STOPPING:
        stop = stopped_by("llm.before", context)
        assert stop is not None
        send.note(stop)
        return True
    if context.directive == HookDirective.SHORT_CIRCUIT:
        if not isinstance(context.output, LLMResponse):
            raise ValueError("a handler at llm.before gave SHORT_CIRCUIT without an LLMResponse in ctx.output")
        return sound(context.output, "a handler at llm.before")
    request.messages = context.standing() or request.messages
    request.system_prompt, request.tools, request.model = context.system_prompt, context.tools, context.model
    request.max_tokens, request.temperature, request.response_format = context.max_tokens, context.temperature, context.response_format
    return None


async def _after(send: Send, response: LLMResponse) -> tuple[LLMResponse, StopRequested | None]:
    """Let the handlers see and replace the reply: what stands, and the stop that they asked for."""
    context = await ask(send, "llm.after", messages=send.window.messages, output=response)
    given = sound(context.output, "a handler at llm.after") if isinstance(context.output, LLMResponse) else response
    return given, stopped_by("llm.after", context)
