"""Streams that wait, keys that are taken meanwhile, children of processes that died."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from power_loop import StatefulAgentLoop
from power_loop.contracts.records import UserSaid
from power_loop.runtime.lifeline import Lifeline
from power_loop.testing import FunctionLLM, ScriptedLLM


async def test_the_first_result_of_a_stream_is_that_of_its_own_send(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def think(request: Any) -> str:
        await gate.wait()
        return f"answer to {request.messages[-1]['content']}"

    async with StatefulAgentLoop(llm=FunctionLLM(think), dsn=str(tmp_path / "app.db")) as loop:
        session = await loop.new_session()
        running = asyncio.Event()
        loop.event_bus.subscribe("stream_started", lambda _: running.set())
        first = asyncio.create_task(loop.send("A", session))
        await running.wait()
        loop.event_bus.subscribe("stream_started", lambda _: gate.set())

        async def first_result() -> str:
            stream = loop.stream("B", session)
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            gate.set()
            event = await waiting
            async for event in stream:
                if event.type == "result":
                    break
            return event.result.final_text

        assert await first_result() == "answer to B"
        await first


async def test_the_last_event_of_a_stream_is_its_result_also_for_a_key_that_was_answered_before(tmp_path: Path) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM(["one"]), dsn=str(tmp_path / "app.db")) as loop:
        session = await loop.new_session()
        await loop.send("A", session, key="k")
        events = [event async for event in loop.stream("A", session, key="k")]
        assert [event.result.final_text for event in events[-1:]] == ["one"]


async def test_a_key_that_is_taken_while_a_handler_looks_is_no_lost_lease(tmp_path: Path) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM(["one", "two"], strict=False), dsn=str(tmp_path / "app.db")) as loop:
        session, store = await loop.new_session(), await loop.ensure_store()

        async def meanwhile(_: Any) -> None:
            if not await store.inbox(session):
                await store.post(session, UserSaid("same"), key="k", keyed=True)

        loop.hooks.register("message.append", meanwhile)
        assert (await loop.send("same", session, key="k")).status == "completed"


HOLDER = """
import os, sys, time
from power_loop.runtime.lifeline import Lifeline
lifeline = Lifeline("parent", sys.argv[1])
lifeline.hold()
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_process_that_died_is_known_to_be_dead_though_a_child_of_its_lives_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        assert Lifeline("me", tmp_path).is_dead("parent")
    finally:
        os.kill(child, 9)
        process.stdout.close()
