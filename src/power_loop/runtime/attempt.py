"""The attempts of one model call: on the wire, to the listeners, in the ledger.

Each attempt has its events in pairs, and each that fails or is cut off is charged: the provider worked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from power_loop.contracts.errors import CancellationRequested, LLMError, LLMTimeout
from power_loop.contracts.model import Joined, LLMRequest, LLMResponse, LLMStreamChunk, ModelRestart
from power_loop.contracts.records import ROUNDS, CallCharged
from power_loop.contracts.to_end import unhurried
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.cancel import Cut, being_cancelled
from power_loop.runtime.partial import Partial
from power_loop.runtime.ports import priced
from power_loop.runtime.reply import asked_model, estimated, sound, usage_of
from power_loop.runtime.retry import as_llm_error, text_of, with_retry
from power_loop.runtime.send import Send

if TYPE_CHECKING:
    from power_loop.runtime.ledger import Books


async def reply_to(send: Send, request: LLMRequest, purpose: str) -> LLMResponse:
    """The reply, tried as often as the policy says. Raises `LLMError`, or `Cut` when the send was stopped."""
    attempts = Attempts(send, request, purpose)
    policy = send.terms.settings.retry
    request.on_restart = attempts.restarted
    try:
        with send.scope.steerable(send.session.head.wake_no) if purpose in ROUNDS else send.scope:
            if policy is None:
                return await attempts.once()
            told = attempts.retried
            return await with_retry(attempts.once, policy=policy, on_retry=told, clock=send.ports.clock, ids=send.ports.ids)
    except asyncio.CancelledError:
        attempts.cut_off("cancelled")
        raise
    except Exception as error:  # the host's model may raise anything
        why = "steered" if isinstance(error, Cut) and send.scope.stop is None else "cancelled"
        attempts.cut_off("TimeoutError" if isinstance(error, LLMTimeout) else why)
        if isinstance(error, CancellationRequested) and (send.ahead.stop is not None or send.scope.stop is not None):
            raise Cut from error
        if isinstance(error, (Cut, LLMError)):
            raise
        raise as_llm_error(error) from error
    finally:
        request.on_restart = None  # whoever keeps the request restarts nothing any more, and keeps no send with it


class Attempts:
    """One model call, attempt after attempt; what the attempt in hand has shown."""

    _started: float
    _text: list[str]

    def __init__(self, send: Send, request: LLMRequest, purpose: str) -> None:
        self._send, self._request, self._purpose = send, request, purpose
        self._number = 0
        self._in_hand = self._announced = False
        self._model: str | None = asked_model(send, request)
        form = send.terms.output
        self._partial = Partial(form, send.teller) if form is not None and purpose in ROUNDS else None

    async def once(self) -> LLMResponse:
        """One call of the model. Raises `CancellationRequested` when there is no budget left for another one."""
        await self._next()
        try:
            response = self._checked(await self._ask())
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise  # who cut it off, and why, is known further up
            self.cut_off("cancelled")
            raise LLMError("the model's client cancelled its own call") from error
        except BaseException as error:
            self.cut_off(type(error).__name__)
            raise
        self._succeed(response)
        return response

    async def _next(self) -> None:
        """Begin an attempt, when the budget has room for it. Raises as `once` does."""
        if self._number and self._send.books is not None:
            await self._reserve_again(self._send.books)
        self._begin()

    async def _reserve_again(self, books: Books) -> None:
        """Charge the attempt that failed and reserve for the next one. What waits is heard later: this request is made already."""
        may = await unhurried(books.may_call(self._send, self._purpose, hears=False))
        if not may:
            raise CancellationRequested("no further attempt: the budget is used up")

    def cut_off(self, why: str) -> None:
        """The attempt in hand, if there is one, has ended without a reply."""
        self._announced = False
        if self._in_hand:
            self._fail(why)

    def retried(self, number: int, error: BaseException, wait_s: float) -> None:
        """The policy tries again after ``wait_s``; a stop that the model's own code swallowed ends it here."""
        if self._send.scope.is_cut:
            raise Cut
        policy = self._send.terms.settings.retry
        self._tell_retry(number, policy.max_attempts if policy is not None else number, error, wait_s)

    # --- on the wire -----------------------------------------------------------------------

    def _ask(self) -> Awaitable[object]:
        model = self._send.ports.model
        complete: Callable[..., Awaitable[object]] | None = getattr(model, "complete", None)
        if complete is None:
            return self._joined(model.stream(self._request))
        return complete(self._request, on_chunk_delta_text=self._hear, on_chunk_think=self._hear_thought)

    def _checked(self, response: object) -> LLMResponse:
        """``response``, if it is one. Raises `LLMError` where the model says itself that it failed."""
        model = type(self._send.ports.model).__name__
        if not isinstance(response, LLMResponse):
            raise TypeError(f"complete() of {model} gave {type(response).__name__}, not an LLMResponse")
        response = sound(response, model)
        if response.finish_reason == "error":
            self._begin_announced()
            self._fail(LLMError.__name__, usage_of(response, self._request))
            raise LLMError("the model ended its reply with an error")
        return response

    async def _joined(self, chunks: AsyncIterator[LLMStreamChunk]) -> LLMResponse:
        """The whole reply of a model that only streams."""
        reply = Joined()
        async for chunk in chunks:
            if chunk.delta_text:
                self._hear(chunk.delta_text)
            if chunk.think:
                self._hear_thought(chunk.think)
            reply.take(chunk)
        return reply.response(self._send.ports.model)

    def _hear(self, text: str) -> None:
        self._begin_announced()
        self._text.append(text)
        self._send.teller.say("stream_delta", stream_id="main", text=text, is_think=False)
        if self._partial is not None:
            self._partial.hear(text)

    def _hear_thought(self, text: str) -> None:
        self._begin_announced()
        self._send.teller.say("stream_think_delta", stream_id="main", text=text, is_think=True)

    def restarted(self, restart: ModelRestart) -> Awaitable[None]:
        """The model itself tries again, or another takes over: what was shown is void, and charged.

        The next attempt begins when the result is awaited, which raises as `once` does.
        """
        self._model = restart.from_model or self._model
        self.cut_off(type(restart.error).__name__)
        if restart.is_fallback:
            told = {"from_model": restart.from_model, "to_model": restart.to_model}
            self._send.teller.say("llm_fallback", **told, error_type=type(restart.error).__name__)
        else:
            self._tell_retry(restart.attempt, 0, restart.error, restart.wait_s)
        self._model, self._announced = restart.to_model or self._model, True
        return NextAttempt(self._next)

    def _begin_announced(self) -> None:
        """Some models await nothing: of those an attempt begins with the first that is heard of it."""
        if self._announced:
            self._begin()

    # --- to the listeners, and in the ledger ---------------------------------------------------

    def _begin(self) -> None:
        self._number += 1
        self._text, self._in_hand, self._announced = [], True, False
        if self._partial is not None:
            self._partial.begin()
        self._started = self._send.ports.clock.monotonic()
        place = "fold" if self._purpose == "fold" else f"r{self._send.ahead.rounds}"
        self._request.call_id = f"{place}.a{self._number}"
        if not self._send.ports.bus.silent:
            self._send.teller.say("llm_call_started", **self._call())
            self._send.teller.say("stream_started", stream_id="main", call_id=self._request.call_id)

    def _fail(self, why: str, usage: CallUsage | None = None) -> None:
        """The attempt in hand has failed; ``usage`` is estimated where nobody told it."""
        send, text = self._send, "".join(self._text)
        usage = usage or estimated(self._request, text)
        send.partial_text, self._in_hand = text, False
        send.note(CallCharged(self._purpose, priced(send.terms.settings, usage, self._model), why, self._model))
        self._end(usage, aborted=True, success=False, error_type=why)

    def _succeed(self, response: LLMResponse) -> None:
        self._begin_announced()
        if self._partial is not None:
            self._partial.look()
        self._send.partial_text, self._in_hand = "", False
        if not self._send.ports.bus.silent:
            told = {"finish_reason": response.finish_reason, "response_model": response.model, "response_id": response.response_id}
            self._end(usage_of(response, self._request), aborted=False, success=True, **told)

    def _end(self, usage: CallUsage, *, aborted: bool, **outcome: Any) -> None:
        tell, duration_ms = self._send.teller.say, round((self._send.ports.clock.monotonic() - self._started) * 1000)
        counts = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.total}
        tell("stream_completed", stream_id="main", call_id=self._request.call_id, aborted=aborted)
        tell("llm_call_completed", **self._call(), duration_ms=duration_ms, **outcome, **counts, estimated=usage.estimated)

    def _call(self) -> dict[str, Any]:
        """What the events of one attempt have in common."""
        provider, round_index = getattr(self._send.ports.model, "provider_name", None), self._send.teller.round_index
        told = {"call_id": self._request.call_id, "round_index": round_index, "attempt": self._number}
        return {**told, "model": self._model, "provider": provider}

    def _tell_retry(self, attempt: int, max_attempts: int, error: BaseException, wait_s: float) -> None:
        told = {"error_type": type(error).__name__, "error_message": text_of(error)[:500], "next_sleep_seconds": wait_s}
        self._send.teller.say("llm_retry_attempted", attempt=attempt, max_attempts=max_attempts, **told)


class NextAttempt:
    """Begins when it is awaited. No coroutine: a wait that is cut off before may leave it unused."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, None, None]:
        return self._begin().__await__()
