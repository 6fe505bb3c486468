"""The attempts of one model call: on the wire, to the listeners, in the ledger.

Each attempt has its events in pairs, and each that fails or is cut off is charged: the provider worked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from power_loop.contracts.errors import CancellationRequested, LLMError, LLMTimeout
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMStreamChunk, ModelRestart
from power_loop.contracts.records import ROUNDS, CallCharged
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.cancel import Cut, being_cancelled, to_its_end
from power_loop.runtime.partial import Partial
from power_loop.runtime.ports import priced
from power_loop.runtime.reply import estimated, usage_of
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
        if isinstance(error, CancellationRequested) and send.ahead.stop is not None:
            raise Cut from error
        if isinstance(error, (Cut, LLMError, CancellationRequested)):
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
        self._in_hand = False
        form = send.terms.output
        self._partial = Partial(form, send.teller) if form is not None and purpose in ROUNDS else None

    async def once(self) -> LLMResponse:
        """One call of the model. Raises `CancellationRequested` when there is no budget left for another one."""
        if self._number and self._send.books is not None:
            await self._reserve_again(self._send.books)
        self._begin()
        try:
            response = self._checked(await self._ask())
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise  # who cut it off, and why, is known further up
            self._fail("cancelled")
            raise LLMError("the model's client cancelled its own call") from error
        except BaseException as error:
            self._fail(type(error).__name__)
            raise
        self._succeed(response)
        return response

    async def _reserve_again(self, books: Books) -> None:
        """Charge the attempt that failed and reserve for the next one. What waits is heard later: this request is made already."""
        may = await to_its_end(books.may_call(self._send, self._purpose, hears=False))
        if being_cancelled():
            raise asyncio.CancelledError
        if not may:
            raise CancellationRequested("no further attempt: the budget is used up")

    def cut_off(self, why: str) -> None:
        """The attempt in hand, if there is one, was ended from outside."""
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
        if not isinstance(response, LLMResponse):
            model = type(self._send.ports.model).__name__
            raise TypeError(f"complete() of {model} gave {type(response).__name__}, not an LLMResponse")
        return response

    async def _joined(self, chunks: AsyncIterator[LLMStreamChunk]) -> LLMResponse:
        """The whole reply of a model that only streams."""
        response = LLMResponse()
        async for chunk in chunks:
            if chunk.delta_text:
                self._hear(chunk.delta_text)
            if chunk.think:
                self._hear_thought(chunk.think)
                response.think += chunk.think
            response.tool_calls = chunk.tool_calls or response.tool_calls
            response.token_usage = chunk.token_usage or response.token_usage
            response.finish_reason = chunk.finish_reason or response.finish_reason
            response = chunk.response or response
        response.content_text = response.content_text or "".join(self._text)
        return response

    def _hear(self, text: str) -> None:
        self._text.append(text)
        self._send.teller.say("stream_delta", stream_id="main", text=text, is_think=False)
        if self._partial is not None:
            self._partial.hear(text)

    def _hear_thought(self, text: str) -> None:
        self._send.teller.say("stream_think_delta", stream_id="main", text=text, is_think=True)

    def restarted(self, restart: ModelRestart) -> None:
        """The model itself tries again, or another takes over: what was shown is void, and charged."""
        self._fail(type(restart.error).__name__)
        if restart.to_model != restart.from_model:
            told = {"from_model": restart.from_model, "to_model": restart.to_model}
            self._send.teller.say("llm_fallback", **told, error_type=type(restart.error).__name__)
        else:
            self._tell_retry(restart.attempt, 0, restart.error, 0.0)
        self._begin()

    # --- to the listeners, and in the ledger ---------------------------------------------------

    def _begin(self) -> None:
        self._number += 1
        self._text, self._in_hand = [], True
        if self._partial is not None:
            self._partial.begin()
        self._started = self._send.ports.clock.monotonic()
        place = "fold" if self._purpose == "fold" else f"r{self._send.ahead.rounds}"
        self._request.call_id = f"{place}.a{self._number}"
        if not self._send.ports.bus.silent:
            self._send.teller.say("llm_call_started", **self._call())
            self._send.teller.say("stream_started", stream_id="main", call_id=self._request.call_id)

    def _fail(self, why: str) -> None:
        send, request, text = self._send, self._request, "".join(self._text)
        usage = estimated(request, text)
        model = request.model or getattr(send.ports.model, "model", None)
        send.partial_text, self._in_hand = text, False
        send.note(CallCharged(self._purpose, priced(send.terms.settings, model, usage), why, request.model))
        self._end(usage, aborted=True, success=False, error_type=why)

    def _succeed(self, response: LLMResponse) -> None:
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
        asked = self._send.ports.model
        model, provider = self._request.model or getattr(asked, "model", None), getattr(asked, "provider_name", None)
        round_index = self._send.teller.round_index
        return {"call_id": self._request.call_id, "round_index": round_index, "attempt": self._number, "model": model, "provider": provider}

    def _tell_retry(self, attempt: int, max_attempts: int, error: BaseException, wait_s: float) -> None:
        told = {"error_type": type(error).__name__, "error_message": text_of(error)[:500], "next_sleep_seconds": wait_s}
        self._send.teller.say("llm_retry_attempted", attempt=attempt, max_attempts=max_attempts, **told)
