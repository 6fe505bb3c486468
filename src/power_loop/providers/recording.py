"""A model that writes down what it is asked and answers: one JSON line for each call, read back by `ReplayLLM`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from power_loop.contracts.digest import request_digest
from power_loop.contracts.errors import LLMError
from power_loop.contracts.json_text import writer
from power_loop.contracts.model import (
    DeltaCallback,
    LLMRequest,
    LLMResponse,
    LLMService,
    LLMTokenUsage,
    ModelCapabilities,
    ModelRestart,
)
from power_loop.contracts.redact import redact
from power_loop.providers.hosts import as_service
from power_loop.providers.values import Json, mapping, number, objects, text

VERSION = 1

_REQUEST_FIELDS = ("messages", "system_prompt", "model", "temperature", "max_tokens", "tools", "tool_choice", "response_format", "extra")
_RESPONSE_FIELDS = (
    "content_text",
    "think",
    "tool_calls",
    "finish_reason",
    "model",
    "response_id",
    "provider_blocks",
    "json_data",
    "parse_error",
)

_encode = writer(ascii_only=True, default=str)


class RecordingLLM(LLMService):
    """Passes every call to ``inner`` and adds it to the file ``path``.

    With ``redact`` secrets are replaced by ``***`` in what is written; requests are then compared in their redacted form,
    so that a replay, whose replies are redacted, asks the same again.
    """

    capabilities: ModelCapabilities | None
    model: str | None
    provider_name: str | None

    def __init__(self, inner: LLMService, path: str | Path, *, redact: bool = True) -> None:
        self.inner: LLMService = as_service(inner)
        self.path: Path = Path(path)
        self.model, self.provider_name, self.capabilities = self.inner.model, self.inner.provider_name, self.inner.capabilities
        self._redacts = redact
        self._lock = threading.Lock()

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        heard = _Heard(listened=on_chunk_delta_text is not None or on_chunk_think is not None)
        asked = request_json(request)
        try:
            response = await self.inner.complete(
                heard.watching(request),
                on_chunk_delta_text=heard.hearing("text", on_chunk_delta_text),
                on_chunk_think=heard.hearing("think", on_chunk_think),
                on_stream_end=on_stream_end,
            )
        except Exception as error:  # the inner model's: a replay fails in the same place
            await self._write(asked, deltas=heard.deltas, error=error_json(error))
            raise
        await self._write(asked, deltas=heard.deltas, response=response_json(response))
        return response

    async def close(self) -> None:
        await self.inner.close()

    async def _write(self, asked: dict[str, Any], **outcome: Any) -> None:
        line: dict[str, Any] = {"v": VERSION, "redacted": self._redacts, "digest": comparable_digest(asked, redacted=self._redacts)}
        line |= {"request": asked, **outcome}
        if self._redacts:
            line = {**redact(line), "deltas": _open_deltas(outcome["deltas"])}
        await asyncio.to_thread(self._append, _encode(line))

    def _append(self, line: str) -> None:
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _open_deltas(deltas: list[list[str]]) -> list[list[str]] | None:
    """``deltas`` where they hold no secret. One may be spread over pieces, so they are only written if their sum is clean."""
    whole = ["".join(piece for kind, piece in deltas if kind == which) for which in ("text", "think")]
    return deltas if redact(whole) == whole else None


class _Heard:
    """The pieces of one reply, forgotten when it begins again."""

    def __init__(self, *, listened: bool) -> None:
        self.deltas: list[list[str]] = []
        self._listened = listened

    def hearing(self, kind: str, callback: DeltaCallback | None) -> DeltaCallback:
        def hear(piece: str) -> Awaitable[None] | None:
            self.deltas.append([kind, piece])
            return callback(piece) if callback is not None else None

        return hear

    def watching(self, request: LLMRequest) -> LLMRequest:
        """``request``, so that a restart is heard; where only we listen, it is always allowed."""
        told = request.on_restart
        if told is None and self._listened:
            return request

        def restart(event: ModelRestart) -> Awaitable[None] | None:
            self.deltas.clear()
            return told(event) if told is not None else None

        return replace(request, on_restart=restart)


# --- the lines -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a recording."""

    digest: str
    request: Json
    redacted: bool
    deltas: tuple[tuple[str, str], ...] | None
    """(``text`` or ``think``, piece); None where the pieces would give a secret away."""
    response: Json | None = None
    error: Json | None = None


def read_recording(path: str | Path) -> list[Recorded]:
    """The calls in the file, in order. Raises `ValueError` naming the line that is none."""
    calls: list[Recorded] = []
    for place, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = mapping(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {place}: {error}") from error
        if number(entry, "v") != VERSION:
            raise ValueError(f"{path}, line {place}: not a recording of version {VERSION}")
        calls.append(_recorded(entry))
    return calls


def _recorded(entry: Json) -> Recorded:
    pieces: Any = entry.get("deltas")
    deltas = None if pieces is None else tuple((str(kind), str(piece)) for kind, piece in pieces)
    response, failure = mapping(entry.get("response")) or None, mapping(entry.get("error")) or None
    return Recorded(text(entry.get("digest")), mapping(entry.get("request")), bool(entry.get("redacted")), deltas, response, failure)


def request_json(request: LLMRequest) -> dict[str, Any]:
    """What of ``request`` is set, as JSON has it."""
    values = {name: value for name in _REQUEST_FIELDS if (value := getattr(request, name)) not in (None, {}, [])}
    return json.loads(_encode(values))


def comparable_digest(asked: Json, *, redacted: bool) -> str:
    """The digest by which a request is found again."""
    values: dict[str, Any] = {"messages": [], **(redact(asked) if redacted else asked)}
    return request_digest(LLMRequest(**values))


def response_json(response: LLMResponse) -> dict[str, Any]:
    """What of ``response`` a program can see, as JSON has it."""
    values = {name: value for name in _RESPONSE_FIELDS if (value := getattr(response, name)) not in (None, "", [], {})}
    if response.token_usage is not None:
        values["token_usage"] = response.token_usage.as_dict()
    if response.raw_text != response.content_text:
        values["raw_text"] = response.raw_text
    return json.loads(_encode(values))


def response_from(recorded: Json) -> LLMResponse:
    """The response that `response_json` wrote down."""
    values = dict(recorded)
    usage = mapping(values.pop("token_usage", None))
    calls = [dict(call) for call in objects(values.get("tool_calls"))]
    said: dict[str, Any] = {"raw_text": text(values.get("content_text")), **values, "tool_calls": calls}
    return LLMResponse(**said, token_usage=LLMTokenUsage(**usage) if usage else None)


def error_json(error: Exception) -> dict[str, Any]:
    """A failure, as far as it matters to whoever retries."""
    known = (
        {"status_code": error.status_code, "provider": error.provider, "retry_after_s": error.retry_after_s}
        if isinstance(error, LLMError)
        else {}
    )
    return {"type": type(error).__name__, "message": str(error), **{key: value for key, value in known.items() if value is not None}}
