"""Text that another process writes, for those who watch: shown every 200 ms, in one row that goes when the reply is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from power_loop import AgentEvent, AgentLoopConfig, LLMError, LLMResponse, LLMRetryPolicy, SessionStore, StatefulAgentLoop
from power_loop.config import RunPolicy
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import ManualClock

SHARED = AgentLoopConfig(running=RunPolicy(durable_stream=True, lease_ttl_s=1e6), retry_policy=LLMRetryPolicy(backoff_initial=0))
KEPT = "SELECT COUNT(*) FROM pl_state"


class Typist:
    """A model that writes what it is given, piece by piece, when it is told to."""

    model, provider_name, capabilities = "typist", "tests", None

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    async def complete(self, request: Any, *, on_chunk_delta_text: Any, on_chunk_think: Any, **_: Any) -> LLMResponse:
        text = ""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            (on_chunk_think if piece.startswith("(") else on_chunk_delta_text)(piece)
            text += "" if piece.startswith("(") else piece
        return LLMResponse(content_text=text)


class Desk:
    """A writer in one process, a reader in another, and a clock that both go by."""

    def __init__(self) -> None:
        self.database, self.clock, self.typist = MemoryDatabase.with_schema(), ManualClock(), Typist()
        self.seen: list[AgentEvent] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def loop(self, config: AgentLoopConfig | None = None) -> StatefulAgentLoop:
        store = SessionStore(self.database.connect(), MemoryDatabase.dialect, clock=self.clock)
        return StatefulAgentLoop(llm=self.typist, store=store, config=config)

    async def begin(self, config: AgentLoopConfig = SHARED) -> str:
        writer = self.loop(config)
        session = await writer.new_session()
        self.tasks = [asyncio.create_task(self.read(self.loop(), session)), asyncio.create_task(writer.send("go", session))]
        await self.until(lambda: "message_appended" in self.types())
        return session

    async def read(self, loop: StatefulAgentLoop, session: str) -> None:
        async for event in loop.watch(session):
            self.seen.append(event)

    async def write(self, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self.typist.pieces.put_nowait(piece)
        await self.clock.advance(0.5)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):  # of real time: a database may have a thread
            while not holds():
                await self.clock.advance(0.5)

    def types(self) -> list[str]:
        return [str(event.type) for event in self.seen]

    def text(self) -> str:
        return "".join(event.delta for event in self.seen)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    here = Desk()
    yield here
    for task in here.tasks:
        task.cancel()
    await asyncio.gather(*here.tasks, return_exceptions=True)


async def test_text_arrives_while_it_is_written_and_its_rest_with_the_reply(desk: Desk) -> None:
    await desk.begin()
    await desk.write("(hm", " well)", "One ", "two")
    await desk.until(lambda: desk.text() == "(hm well)One two")
    await desk.write(" three")
    await desk.until(lambda: desk.text() == "(hm well)One two three")
    assert await desk.database.read(KEPT) == [(1,)], "one row, overwritten"
    await desk.write(" four", None)
    await desk.until(lambda: "result" in desk.types())
    assert desk.text() == "(hm well)One two three four"
    begin, end = desk.types().index("stream_started"), desk.types().index("stream_completed")
    assert set(desk.types()[begin + 1 : end]) == {"stream_think_delta", "stream_delta"}
    assert desk.types()[end + 1] == "usage_updated"
    assert desk.seen[end].payload["aborted"] is False
    await desk.until(lambda: desk.database.read(KEPT).result() == [(0,)])


async def test_what_a_failed_attempt_wrote_is_taken_back(desk: Desk) -> None:
    await desk.begin()
    await desk.write("It is su")
    await desk.until(lambda: desk.text() == "It is su")
    await desk.write(LLMError("lost"), "It is rain")
    await desk.until(lambda: desk.text() == "It is suIt is rain")
    await desk.write(None)
    await desk.until(lambda: "result" in desk.types())
    about = [(str(event.type), event.payload.get("aborted")) for event in desk.seen if event.type in ("stream_started", "stream_completed")]
    assert about == [("stream_started", None), ("stream_completed", True), ("stream_started", None), ("stream_completed", False)]


async def test_without_the_setting_nothing_is_shown(desk: Desk) -> None:
    await desk.begin(AgentLoopConfig(running=RunPolicy(lease_ttl_s=1e6)))
    await desk.write("One ", "two")
    assert await desk.database.read(KEPT) == [(0,)]
    await desk.write(None)
    await desk.until(lambda: "result" in desk.types())
    assert desk.text() == ""


async def test_what_a_dead_writer_left_is_not_shown_as_being_written(desk: Desk) -> None:
    session = await desk.begin()
    await desk.write("One ")
    await desk.until(lambda: desk.text() == "One ")
    desk.tasks[1].cancel()
    await desk.until(lambda: "session_ended" in desk.types())
    assert [event.payload["aborted"] for event in desk.seen if event.type == "stream_completed"] == [True]
    await desk.until(lambda: desk.database.read(KEPT).result() == [(0,)])
    assert session
