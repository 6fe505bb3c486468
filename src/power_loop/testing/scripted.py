"""Models for tests: one that follows a script and is strict about it, one that is a function.

Both are fakes of the model port, not mocks: they stream, report usage and fail like a model. `ScriptedLLM` is fast enough for
benchmarks when ``keep_requests`` is off and the steps name their tokens.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, cast

from power_loop.contracts.messages import estimate_text_tokens, estimate_tokens
from power_loop.contracts.model import (
    DeltaCallback,
    LLMRequest,
    LLMResponse,
    LLMService,
    LLMTokenUsage,
    ModelCapabilities,
)
from power_loop.providers.echo import words

Answer = str | LLMResponse
Responder = Callable[[LLMRequest], "Answer | Step | Awaitable[Answer | Step]"]


@dataclass(frozen=True, slots=True)
class Step:
    """One answer of a script; made by `say`, `call`, `calls`, `fail`, `hang` and `respond`."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """(name, arguments as JSON text)"""
    think: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    provider_blocks: Any = None
    error: BaseException | None = None
    """Raised once ``text`` was streamed."""
    hangs: bool = False
    response: LLMResponse | None = None
    responder: Responder | None = None


def say(text: str, *, think: str = "", prompt_tokens: int | None = None, completion_tokens: int | None = None, **more: Any) -> Step:
    """The model answers ``text``. ``more``: cached_tokens, finish_reason, provider_blocks."""
    return Step(text, (), think, prompt_tokens, completion_tokens, **more)


def call(name: str, /, **args: Any) -> Step:
    """The model calls a tool."""
    return Step(calls=((name, json.dumps(args, ensure_ascii=False)),))


def raw_call(name: str, arguments: str) -> Step:
    """The model calls a tool with these characters as arguments, JSON or not."""
    return Step(calls=((name, arguments),))


def calls(*steps: Step, text: str = "", **more: Any) -> Step:
    """The model makes several calls in one reply, with ``text`` before them. ``more`` as of `say`."""
    return Step(text, tuple(pair for step in steps for pair in step.calls), **more)


def fail(error: BaseException | type[BaseException], *, after: str = "") -> Step:
    """The call fails, once ``after`` was streamed."""
    return Step(after, error=error() if isinstance(error, type) else error)


def hang(*, after: str = "") -> Step:
    """The call never ends by itself: for cancels and timeouts."""
    return Step(after, hangs=True)


def respond(fn: Responder) -> Step:
    """``fn(request)``, plain or async, says what the model answers: a text, an `LLMResponse` or a step."""
    return Step(responder=fn)


class _FakeLLM(LLMService, ABC):
    """What both models share: playing a step."""

    def __init__(self, *, model: str, capabilities: ModelCapabilities | None, keep_requests: bool) -> None:
        self.model: str | None = model
        self.provider_name: str | None = "testing"
        self.capabilities = capabilities
        self.requests: list[LLMRequest] = []
        """What was asked, as it was then."""
        self._keep_requests = keep_requests
        self._calls_made = 0

    @abstractmethod
    def next_step(self) -> Step:
        """What the model does with the request at hand."""

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        if self._keep_requests:
            self.requests.append(_copied(request))
        step = self.next_step()
        while step.responder is not None:
            step = await _asked(step.responder, request)
        if on_chunk_think is not None:
            await _hand(step.think, on_chunk_think)
        if on_chunk_delta_text is not None:
            await _hand(step.text if step.response is None else step.response.content_text, on_chunk_delta_text)
        if step.error is not None:
            raise step.error
        if step.hangs:
            await asyncio.Event().wait()
        if on_stream_end is not None and (told := on_stream_end()) is not None:
            await told
        return step.response or self._response(step, request)

    def _response(self, step: Step, request: LLMRequest) -> LLMResponse:
        prompt, completion = step.prompt_tokens, step.completion_tokens
        if prompt is None:
            prompt = estimate_tokens(request.messages) + estimate_text_tokens(request.system_prompt or "")
        if completion is None:
            completion = estimate_text_tokens(step.text + "".join(arguments for _, arguments in step.calls))
        return LLMResponse(
            raw_text=step.text, content_text=step.text, think=step.think, provider_blocks=step.provider_blocks,
            token_usage=LLMTokenUsage(prompt=prompt, completion=completion, total=prompt + completion, prompt_cached=step.cached_tokens),
            tool_calls=[self._numbered(name, arguments) for name, arguments in step.calls],
            finish_reason=step.finish_reason or ("tool_calls" if step.calls else "stop"), model=request.model or self.model,
        )  # fmt: skip

    def _numbered(self, name: str, arguments: str) -> dict[str, Any]:
        self._calls_made += 1
        return {"id": f"call_{self._calls_made}", "type": "function", "function": {"name": name, "arguments": arguments}}


class ScriptedLLM(_FakeLLM):
    """Answers with ``steps``, one for each request; a string is `say`, an exception `fail`, an `LLMResponse` itself.

    Strict: a request beyond the script raises `AssertionError`, and so does `assert_complete` (or leaving ``with``) while
    a step is unused. Not strict: the last step answers every further request.
    """

    def __init__(
        self,
        steps: Sequence[Step | Answer | BaseException | Responder] = (),
        *,
        strict: bool = True,
        model: str = "scripted",
        capabilities: ModelCapabilities | None = None,
        keep_requests: bool = True,
    ) -> None:
        super().__init__(model=model, capabilities=capabilities, keep_requests=keep_requests)
        self._steps = [_step(step) for step in steps]
        self._strict = strict
        self._next = 0
        self._unexpected = 0

    def add(self, *steps: Step | Answer | BaseException | Responder) -> None:
        """Write the script on."""
        self._steps += [_step(step) for step in steps]

    @property
    def left(self) -> int:
        """How many steps are unused."""
        return max(0, len(self._steps) - self._next)

    def next_step(self) -> Step:
        self._next += 1
        if self._next <= len(self._steps):
            return self._steps[self._next - 1]
        if not self._strict and self._steps:
            return self._steps[-1]
        self._unexpected += 1
        last = f"; it ends with {self.requests[-1].messages[-1:]!r:.300}" if self.requests else ""
        raise AssertionError(f"the script has {len(self._steps)} steps, and this is request {self._next}{last}")

    def assert_complete(self) -> None:
        """Raises `AssertionError` when a step is unused or a request was unexpected."""
        assert not self._unexpected, f"{self._unexpected} requests came after the script's {len(self._steps)} steps"
        assert not (self._strict and self.left), f"{self.left} of {len(self._steps)} steps were not used; next is {self._steps[self._next]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.assert_complete()


class FunctionLLM(_FakeLLM):
    """Answers every request with ``fn(request)``, plain or async: a text, an `LLMResponse` or a step."""

    def __init__(
        self, fn: Responder, *, model: str = "function", capabilities: ModelCapabilities | None = None, keep_requests: bool = True
    ) -> None:
        super().__init__(model=model, capabilities=capabilities, keep_requests=keep_requests)
        self._step = respond(fn)

    def next_step(self) -> Step:
        return self._step


def _step(step: Step | Answer | BaseException | Responder) -> Step:
    match step:
        case Step():
            return step
        case str():
            return Step(step)
        case LLMResponse():
            return Step(response=step)
        case BaseException():
            return fail(step)
        case _:
            return respond(step)


async def _asked(responder: Responder, request: LLMRequest) -> Step:
    answer = responder(request)
    return _step(await answer if inspect.isawaitable(answer) else answer)


async def _hand(text: str, callback: DeltaCallback) -> None:
    for word in words(text):
        if (told := callback(word)) is not None:
            await told


def _copied(request: LLMRequest) -> LLMRequest:
    """``request`` as it is now: what the caller changes later does not change it."""
    return replace(request, messages=_copy(request.messages), tools=_copy(request.tools), extra=_copy(request.extra), on_restart=None)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_copy(item) for item in cast("list[Any]", value)]
    return value
