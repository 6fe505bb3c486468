"""Servers for the transports: a scripted one for faults, a real third-party one for the protocols."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import npm
import pytest
import pytest_asyncio

from power_loop.llm import AnthropicChatConfig, AnthropicLLM, LLMRequest, LLMService, OpenAICompatibleChatConfig, OpenAICompatibleLLM

HERE = Path(__file__).parent
AIMOCK = "@copilotkit/aimock@1.43.0"
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    """What the scripted server says to one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(SSE))
    cut: bool = False
    """The connection is dropped after the body, although more was promised."""
    hold: bool = False
    """Nothing follows the body, and the connection stays open until the client leaves."""


@dataclass
class Asked:
    """What the scripted server was asked."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeServer:
    """HTTP/1.1 on loopback: says ``answers`` in order (functions of the request too), then the default reply."""

    def __init__(self) -> None:
        self.answers: deque[Answer | Callable[[Asked], Answer]] = deque()
        self.asked: list[Asked] = []
        self.client_left = asyncio.Event()
        self.held = asyncio.Event()
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refuse(self, status: int, error: dict[str, Any], **headers: str) -> None:
        self.answers.append(Answer(json.dumps({"error": error}).encode(), status, {**JSON, **headers}))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client_left.set()
        except asyncio.CancelledError:  # by `stop`
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(head[0].split()[1], headers, json.loads(body or b"{}"))
        self.asked.append(asked)
        answer = self.answers.popleft() if self.answers else default_answer
        answer = answer if isinstance(answer, Answer) else answer(asked)
        open_end = answer.cut or answer.hold
        length = len(answer.body) + (1000 if open_end else 0)
        lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {length}", *(f"{k}: {v}" for k, v in answer.headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()
        if answer.hold:
            self.held.set()
            await reader.read()
            self.client_left.set()
        return not open_end


# --- replies of both wires ------------------------------------------------------------------


def events(*values: Any) -> bytes:
    return b"".join(b"data: " + (v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n\n" for v in values)


def chat_stream(*deltas: dict[str, Any], finish: str | None = "stop", usage: dict[str, Any] | None = None, done: bool = True) -> bytes:
    """An OpenAI stream of these deltas."""
    head = {"id": "c1", "model": "m", "object": "chat.completion.chunk"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish:
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({**head, "choices": [], "usage": usage})
    return events(*chunks, *([b"[DONE]"] if done else []))


def messages_stream(*blocks: dict[str, Any], stop: str = "end_turn", usage: dict[str, Any] | None = None) -> bytes:
    """An Anthropic stream of these content blocks, each in one piece."""
    parts: list[Any] = [{"type": "message_start", "message": {"id": "m1", "model": "m", "usage": usage or {}}}]
    for place, block in enumerate(blocks):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}.get(kind, {})
        parts.append({"type": "content_block_start", "index": place, "content_block": {**block, **empty}})
        if kind == "text":
            parts.append({"type": "content_block_delta", "index": place, "delta": {"type": "text_delta", "text": block["text"]}})
        if kind == "thinking":
            for piece, key in (("thinking_delta", "thinking"), ("signature_delta", "signature")):
                parts.append({"type": "content_block_delta", "index": place, "delta": {"type": piece, key: block[key]}})
        if kind == "tool_use":
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            parts.append({"type": "content_block_delta", "index": place, "delta": delta})
        parts.append({"type": "content_block_stop", "index": place})
    parts.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 3}})
    return events(*parts, {"type": "message_stop"})


def default_answer(asked: Asked) -> Answer:
    is_chat = asked.path.endswith("/chat/completions")
    return Answer(chat_stream({"content": "fine"}) if is_chat else messages_stream({"type": "text", "text": "fine"}))


def text_pieces(asked: Asked, *pieces: str) -> bytes:
    """A stream of both wires that breaks off after ``pieces``."""
    if asked.path.endswith("/chat/completions"):
        return chat_stream(*({"content": piece} for piece in pieces), finish=None, done=False)
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces]
    return events({"type": "message_start", "message": {"id": "m1", "model": "m"}}, start, *deltas)


class Wire:
    """One protocol against the scripted server."""

    def __init__(self, name: str, server: FakeServer) -> None:
        self.name, self.server = name, server
        self.slept: list[float] = []
        self._made: list[LLMService] = []

    def llm(self, url: str | None = None, *, wait: Callable[[], Awaitable[Any]] | None = None, **config: Any) -> Any:
        """A service of this wire; its waits are written down instead of waited, or are ``wait``."""
        address = url or self.server.url
        config = {"api_key": "key", "model": "m", **config}

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            if wait is not None:
                await wait()

        service: LLMService
        if self.name == "openai":
            service = OpenAICompatibleLLM(OpenAICompatibleChatConfig(base_url=f"{address}/v1", **config), sleep=sleep)
        else:
            service = AnthropicLLM(AnthropicChatConfig(base_url=address, **config), sleep=sleep)
        self._made.append(service)
        return service

    async def sent(self, request: LLMRequest | None = None, **config: Any) -> dict[str, Any]:
        """The body of the one request that ``request`` becomes."""
        before = len(self.server.asked)
        await self.llm(**config).complete(request or ask())
        assert len(self.server.asked) == before + 1
        return self.server.asked[-1].body

    async def close(self) -> None:
        for service in self._made:
            await service.close()


def ask(text: str = "hello", **fields: Any) -> LLMRequest:
    return LLMRequest([{"role": "user", "content": text}], **fields)


class Helpers:
    """What tests of this folder build requests and replies with."""

    Answer, SSE, JSON = Answer, SSE, JSON
    ask = staticmethod(ask)
    events = staticmethod(events)
    chat_stream = staticmethod(chat_stream)
    messages_stream = staticmethod(messages_stream)
    text_pieces = staticmethod(text_pieces)
    recordings = HERE / "wire"


@pytest.fixture
def h() -> type[Helpers]:
    return Helpers


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    await fake.start()
    yield fake
    await fake.stop()


@pytest_asyncio.fixture
async def openai(server: FakeServer) -> AsyncIterator[Wire]:
    wire = Wire("openai", server)
    yield wire
    await wire.close()


@pytest_asyncio.fixture
async def anthropic(server: FakeServer) -> AsyncIterator[Wire]:
    wire = Wire("anthropic", server)
    yield wire
    await wire.close()


@pytest_asyncio.fixture(params=["openai", "anthropic"])
async def wire(request: pytest.FixtureRequest, server: FakeServer) -> AsyncIterator[Wire]:
    """Both protocols, one after the other."""
    chosen = Wire(request.param, server)
    yield chosen
    await chosen.close()


# --- a real server ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def aimock(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of `@copilotkit/aimock`, a third-party server of both protocols."""
    try:
        program = npm.installed(AIMOCK, ".bin/llmock")
    except LookupError as why:
        if os.environ.get("CI"):
            pytest.fail(f"the third-party model server is missing: {why}")
        with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
            print(f"\n*** SKIPPED: tests against a third-party model server: {why} ***")
        pytest.skip(str(why))
    command = [str(program), "-p", "0", "-f", str(HERE / "aimock.json"), "--strict", "-c", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.terminate()
