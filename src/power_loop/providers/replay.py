"""A model that repeats a recording, or the replies of an exported session. Offline, and strict about what it is asked."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from power_loop.contracts.codec import from_cells
from power_loop.contracts.digest import request_digest
from power_loop.contracts.errors import ContextOverflow, LLMError, LLMPermanentError
from power_loop.contracts.model import DeltaCallback, LLMRequest, LLMResponse, LLMService, LLMTokenUsage, ModelCapabilities
from power_loop.contracts.records import ModelReplied
from power_loop.contracts.redact import redact
from power_loop.contracts.store import Cells
from power_loop.contracts.usage import CallUsage
from power_loop.providers.difference import first_difference, short
from power_loop.providers.echo import words
from power_loop.providers.hosts import as_service
from power_loop.providers.recording import Recorded, comparable_digest, read_recording, request_json, response_from
from power_loop.providers.values import Json, mapping, objects


class ReplayMiss(LLMPermanentError):
    """The recording has no answer to this request. Record anew, or look at the first difference for what changed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source has for a request."""

    response: LLMResponse | None = None
    error: LLMError | None = None
    deltas: tuple[tuple[str, str], ...] | None = None


class _Source(Protocol):
    def answer(self, request: LLMRequest) -> Answer:
        """The next answer to ``request``. Raises `ReplayMiss`."""
        ...

    def left(self) -> int: ...


class ReplayLLM(LLMService):
    """Answers from ``source``: the path of a recording, or the dict of a session export.

    From a recording the request must be the same byte for byte; each recorded answer is given once. From an export the
    replies come in order, each to the request whose digest was stored with it. ``on_miss="live"`` asks ``live`` instead of failing.
    """

    provider_name: str | None = "replay"

    def __init__(
        self, source: str | Path | Mapping[str, Any], *, on_miss: Literal["error", "live"] = "error", live: LLMService | None = None
    ) -> None:
        if on_miss == "live" and live is None:
            raise ValueError("on_miss='live' needs live=, the model that is asked then")
        self._source: _Source = _Export(source) if isinstance(source, Mapping) else _Recording(source)
        live = None if live is None else as_service(live)
        self._live = live if on_miss == "live" else None
        self.model: str | None = live.model if live is not None else None
        self.capabilities: ModelCapabilities | None = live.capabilities if live is not None else None

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        callbacks: dict[str, Any] = {"on_chunk_delta_text": on_chunk_delta_text, "on_chunk_think": on_chunk_think}
        try:
            answer = self._source.answer(request)
        except ReplayMiss:
            if self._live is None:
                raise
            return await self._live.complete(request, **callbacks, on_stream_end=on_stream_end)
        hear = {"text": on_chunk_delta_text, "think": on_chunk_think}
        for kind, piece in _pieces(answer):
            if (callback := hear[kind]) is not None and (told := callback(piece)) is not None:
                await told
        if answer.response is None:
            raise answer.error or LLMError("the recorded call failed")
        if on_stream_end is not None and (told := on_stream_end()) is not None:
            await told
        return answer.response

    async def close(self) -> None:
        if self._live is not None:
            await self._live.close()

    def assert_complete(self) -> None:
        """Raises `AssertionError` while recorded answers are unused."""
        assert not self._source.left(), f"{self._source.left()} recorded answers were not asked for"


def _pieces(answer: Answer) -> list[tuple[str, str]]:
    if answer.deltas is not None:
        return list(answer.deltas)
    response = answer.response or LLMResponse()
    return [*([("think", response.think)] if response.think else []), *(("text", word) for word in words(response.content_text))]


# --- a recording ---------------------------------------------------------------------------


class _Recording:
    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._unused = read_recording(path)
        self._redacted = any(call.redacted for call in self._unused)

    def answer(self, request: LLMRequest) -> Answer:
        asked = request_json(request)
        digest = comparable_digest(asked, redacted=self._redacted)
        call = next((call for call in self._unused if call.digest == digest), None)
        if call is None:
            raise ReplayMiss(self._why(redact(asked) if self._redacted else asked))
        self._unused.remove(call)
        return Answer(response_from(call.response) if call.response else None, _error_of(call), call.deltas)

    def left(self) -> int:
        return len(self._unused)

    def _why(self, asked: Json) -> str:
        if not self._unused:
            return f"{self._path} holds no further call; this one is new"
        difference = first_difference(self._unused[0].request, asked)
        return f"{self._path} holds no call like this one; from the next recorded one it differs at {difference}"


def _error_of(call: Recorded) -> LLMError | None:
    if call.error is None:
        return None
    values = dict(call.error)
    kinds: dict[str, type[LLMError]] = {"LLMPermanentError": LLMPermanentError, "ContextOverflow": ContextOverflow}
    kind = kinds.get(str(values.pop("type", "")), LLMError)
    return kind(str(values.pop("message", "")), **values)


# --- an export -----------------------------------------------------------------------------


class _Export:
    """The replies of a session, in order; rows without a model behind them are left out."""

    def __init__(self, export: Mapping[str, Any]) -> None:
        replies = [_reply(row) for row in objects(export.get("records")) if mapping(row.get("cells") or row).get("kind") == "model_replied"]
        self._replies = deque(reply for reply in replies if reply.purpose != "degraded")
        self._given = 0

    def answer(self, request: LLMRequest) -> Answer:
        if not self._replies:
            raise ReplayMiss(f"the export holds {self._given} replies, and all were given; this request is new")
        digest = request_digest(request)
        reply = self._replies[0]
        if reply.request_digest not in (None, digest):
            raise ReplayMiss(self._why(reply, digest, request))
        self._replies.popleft()
        self._given += 1
        return Answer(_response(reply))

    def left(self) -> int:
        return len(self._replies)

    def _why(self, reply: ModelReplied, digest: str, request: LLMRequest) -> str:
        return (
            f"reply {self._given + 1} of the export ({short(reply.text)}) answered the request {reply.request_digest}; "
            f"asked was {digest}, which ends with {short(request.messages[-1:])}"
        )


def _reply(row: Json) -> ModelReplied:
    cells = mapping(row.get("cells") or row)
    values = {name: _as_text(name, cells[name]) for name in Cells._fields if cells.get(name) is not None}
    record = from_cells(Cells(**values))
    assert isinstance(record, ModelReplied)
    return record


def _as_text(name: str, value: Any) -> Any:
    return json.dumps(value) if name in ("body", "tool_calls") and not isinstance(value, str) else value


def _response(reply: ModelReplied) -> LLMResponse:
    return LLMResponse(
        raw_text=reply.text, content_text=reply.text, think=reply.think, tool_calls=[call.to_message() for call in reply.calls],
        token_usage=_usage(reply.usage), finish_reason=reply.finish_reason, model=reply.model, response_id=reply.response_id,
        provider_blocks=reply.provider_blocks,
    )  # fmt: skip


def _usage(usage: CallUsage) -> LLMTokenUsage:
    return LLMTokenUsage(
        prompt=usage.prompt, completion=usage.completion, total=usage.total, prompt_cached=usage.cache_read or None,
        completion_reasoning=usage.reasoning or None, cache_write_tokens=usage.cache_write or None,
        estimated=usage.estimated, cost=usage.cost,
    )  # fmt: skip
