"""What reaches a send under way from another process: a cancel, a word that steers, a closing, the loss of its lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    FollowUpQueued,
    LLMResponse,
    LLMRetryPolicy,
    RunPolicy,
    SessionLeaseLost,
    SessionNotFoundError,
    StatefulAgentLoop,
    ToolRun,
    tool,
)
from power_loop.runtime.cancel import MAX_STEERS
from power_loop.testing import simulate
from power_loop.testing.world import NoFaults, Process, World

HEARD_WITHIN_S = 1.0
A_WHILE_S = 100.0
LEASE_S = 30.0
SEEDS = 10


class Slow:
    """A model whose calls take long, but for those that see one of ``quick`` in the last message."""

    model, provider_name, capabilities = "slow", "tests", None

    def __init__(self, *quick: str, calls: str | None = None) -> None:
        self.quick, self.calls = quick, calls
        self.asked: list[str] = []
        self.cut = 0

    async def complete(self, request: Any, **callbacks: Any) -> LLMResponse:
        last = str(request.messages[-1]["content"])
        self.asked.append(last)
        if self.calls and request.messages[-1]["role"] == "user":
            return LLMResponse(tool_calls=[{"id": "", "type": "function", "function": {"name": self.calls, "arguments": "{}"}}])
        try:
            if not any(word in last for word in self.quick):
                callbacks["on_chunk_delta_text"]("I was about to")
                await asyncio.sleep(A_WHILE_S)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        return LLMResponse(content_text=f"answer to {last}")


class Stage:
    """Two processes on one database: in one runs a send, from the other comes a word."""

    def __init__(self, world: World, llm: Any, settings: dict[str, Any]) -> None:
        world.faults, world.one_machine = NoFaults(), True
        self.world, self.llm = world, llm
        self.here, self.there = world.process("here"), world.process("there")
        self.loop = self._loop(self.here, llm, settings)
        self.other = self._loop(self.there, llm, settings)

    def _loop(self, process: Process, llm: Any, settings: dict[str, Any]) -> StatefulAgentLoop:
        return process.agent(llm, **{"config": AgentLoopConfig(running=RunPolicy(lease_ttl_s=LEASE_S)), **settings})

    async def begin(self) -> asyncio.Task[Any]:
        """The send is under way, and has been for a while."""
        await self.loop.new_session(session_id="s")
        sending = self.here.start(self.loop.send("go", "s"))
        await asyncio.sleep(10)
        assert not sending.done()
        return sending

    async def in_time(self, work: Awaitable[Any]) -> Any:
        """``work``, which must not take long."""
        began = self.world.loop.time()
        try:
            return await work
        finally:
            assert self.world.loop.time() - began <= HEARD_WITHIN_S

    async def kinds(self) -> list[str]:
        return [kind for (kind,) in self.world.look("SELECT kind FROM {p}records WHERE session_id = 's' ORDER BY seq")]

    async def users(self) -> list[str]:
        return [message["content"] for message in await self.other.get_messages("s") if message["role"] == "user"]


def on_stage(play: Callable[[Stage], Awaitable[None]], llm: Callable[[], Any] = Slow, **settings: Any) -> None:
    """The same play in several orders of the steps that are ready at once."""

    async def scenario(world: World) -> None:
        stage = Stage(world, llm(), settings)
        await play(stage)
        for loop in (stage.loop, stage.other):
            await loop.aclose()

    simulate(scenario, SEEDS).check()


def follow_up(text: str) -> str:
    return f"<follow_up>\n{text}\n</follow_up>"


# --- a cancel ---------------------------------------------------------------------------------------


async def _cancelled(stage: Stage) -> None:
    sending = await stage.begin()
    assert await stage.there.run(stage.other.cancel("s", reason="the boss said so"))
    result = await stage.in_time(sending)
    assert (result.status, result.final_text) == ("cancelled", "[cancelled: the boss said so]")
    assert stage.llm.cut == 1
    assert await stage.other.inbox("s") == [], "the cancel was heard, and waits for nobody"
    assert (await stage.kinds()).count("stop_requested") == 1


# acceptance: 72 (from another process, in a model call)
def test_a_cancel_from_another_process_cuts_a_model_call_off() -> None:
    on_stage(_cancelled)


@tool(effects="pure")
async def wait_long(run: ToolRun) -> str:
    """Take its time."""
    try:
        await asyncio.sleep(A_WHILE_S)
    except asyncio.CancelledError:
        assert run.cancel is not None
        assert run.cancel.is_cancelled()
        raise
    return "done"


async def _tools_cancelled(stage: Stage) -> None:
    sending = await stage.begin()
    assert await stage.there.run(stage.other.cancel("s"))
    assert (await stage.in_time(sending)).status == "cancelled"
    assert "tool_returned" in await stage.kinds()


# acceptance: 72 (from another process, in a tool)
def test_a_cancel_from_another_process_cuts_tools_off() -> None:
    on_stage(_tools_cancelled, lambda: Slow(calls="wait_long"), tools=[wait_long])


# acceptance: 152 (another process runs the send)
def test_closing_a_session_that_another_process_drives_ends_the_send_and_leaves_no_row() -> None:
    async def play(stage: Stage) -> None:
        sending = await stage.begin()
        assert await stage.in_time(stage.there.run(stage.other.close_session("s"))) == 1
        assert (await sending).status == "cancelled"
        for table in ("sessions", "session_info", "records", "inbox", "waiters", "send_keys"):
            assert stage.world.look(f"SELECT * FROM {{p}}{table} WHERE session_id = 's'") == []
        with pytest.raises(SessionNotFoundError):
            await stage.other.get_messages("s")

    on_stage(play)


# --- steering ---------------------------------------------------------------------------------------


async def _steered(stage: Stage, mode: str, *, from_here: bool) -> None:
    sending = await stage.begin()
    process, loop = (stage.here, stage.loop) if from_here else (stage.there, stage.other)
    queued = await process.run(loop.enqueue("left!", "s", mode=mode))
    assert isinstance(queued, FollowUpQueued)
    result = await stage.in_time(sending)
    assert (result.status, result.final_text, result.partial_text) == ("completed", f"answer to {follow_up('left!')}", "")
    assert stage.llm.asked == ["go", follow_up("left!")]
    assert await stage.users() == ["go", follow_up("left!")]
    assert result.usage["calls"] == 2, "the call that was cut off was worked for"
    assert await stage.kinds() == ["user_said", "call_charged", "user_said", "model_replied", "send_ended"]


# acceptance: 137
@pytest.mark.parametrize("from_here", [True, False], ids=["this process", "another process"])
def test_a_word_that_steers_interrupts_the_model_and_is_in_the_next_request(from_here: bool) -> None:
    on_stage(lambda stage: _steered(stage, "steer", from_here=from_here), lambda: Slow("left!"))


# acceptance: 137 (under a retry policy)
def test_steering_is_no_failure_that_a_retry_policy_would_repeat() -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(total_timeout=None), running=RunPolicy(lease_ttl_s=LEASE_S))
    on_stage(lambda stage: _steered(stage, "steer", from_here=False), lambda: Slow("left!"), config=config)


# acceptance: 137 (a follow-up that steers)
def test_a_follow_up_may_steer_too() -> None:
    async def play(stage: Stage) -> None:
        sending = await stage.begin()
        queued = await stage.there.run(stage.other.follow_up("left!", "s", mode="steer"))
        assert isinstance(queued, FollowUpQueued)
        assert (await stage.in_time(sending)).final_text == f"answer to {follow_up('left!')}"

    on_stage(play, lambda: Slow("left!"))


def test_a_queued_word_lets_the_model_finish() -> None:
    async def play(stage: Stage) -> None:
        sending = await stage.begin()
        await stage.there.run(stage.other.enqueue("left!", "s"))
        await asyncio.sleep(A_WHILE_S / 2)
        assert stage.llm.asked == ["go"]
        result = await sending
        assert stage.llm.asked == ["go", follow_up("left!")]
        assert result.final_text == f"answer to {follow_up('left!')}"

    on_stage(play, lambda: Slow("left!"))


# acceptance: 137 (running tools finish)
def test_steering_lets_running_tools_finish() -> None:
    async def play(stage: Stage) -> None:
        sending = await stage.begin()
        await stage.there.run(stage.other.enqueue("left!", "s", mode="steer"))
        await asyncio.sleep(A_WHILE_S / 2)
        assert not sending.done()
        result = await sending
        assert (result.status, stage.llm.cut) == ("completed", 0)
        roles = [message["role"] for message in await stage.other.get_messages("s")]
        assert roles[:4] == ["user", "assistant", "tool", "user"], "heard at the next round, never before a result"

    class CallsOnce(Slow):
        async def complete(self, request: Any, **callbacks: Any) -> LLMResponse:
            self.calls = "wait_long" if len(request.messages) == 1 else None
            return await super().complete(request, **callbacks)

    on_stage(play, lambda: CallsOnce("left!"), tools=[wait_long])


def test_the_model_is_interrupted_a_few_times_and_then_no_more() -> None:
    async def play(stage: Stage) -> None:
        sending = await stage.begin()
        for n in range(MAX_STEERS + 1):
            await stage.there.run(stage.other.enqueue(f"word {n}", "s", mode="steer"))
            await asyncio.sleep(10)
        assert stage.llm.cut == MAX_STEERS
        assert (await sending).status == "completed"
        assert [text.count("\n") for text in await stage.users()] == [0, 2, 2, 2, 2], "each was heard, the last one at the next round"

    on_stage(play)


def test_another_mode_is_refused_before_anything_is_written() -> None:
    async def play(stage: Stage) -> None:
        await stage.loop.new_session(session_id="s")
        with pytest.raises(ValueError, match="'queue' or 'steer'"):
            await stage.loop.enqueue("left!", "s", mode="shout")
        assert await stage.loop.inbox("s") == []

    on_stage(play)


# --- the loss of a lease ----------------------------------------------------------------------------


@tool(effects="pure")
async def look(run: ToolRun) -> str:
    """Take long, where nobody is in a hurry."""
    await asyncio.sleep(0 if run.deps == "in a hurry" else A_WHILE_S)
    return "found"


async def _taken_over(stage: Stage) -> None:
    stage.world.one_machine = False
    sending = await stage.begin()
    go_on = asyncio.Event()
    await stage.here.stop_for(go_on.wait())
    await asyncio.sleep(2 * LEASE_S)
    stage.llm.quick, stage.other.deps = ("go", "found"), "in a hurry"
    assert (await stage.there.run(stage.other.resume("s"))).status == "completed"
    before = await stage.kinds()
    go_on.set()
    with pytest.raises(SessionLeaseLost):
        await stage.in_time(sending)
    assert await stage.kinds() == before, "it wrote nothing more"


# acceptance: 142 (a process that was stopped for longer than its lease)
def test_a_holder_that_lost_its_lease_lets_its_model_go_and_is_told() -> None:
    on_stage(_taken_over)


# acceptance: 142 (its tools are cancelled)
def test_a_holder_that_lost_its_lease_cancels_its_tools_and_is_told() -> None:
    on_stage(_taken_over, lambda: Slow(calls="look"), tools=[look])


# --- the line ---------------------------------------------------------------------------------------


async def _served_after_a_death(stage: Stage) -> None:
    sending = await stage.begin()
    dying = stage.world.process("dying")
    dying.start(dying.agent(stage.llm).send("never said", "s"))
    await asyncio.sleep(0.5)
    waiting = stage.there.start(stage.other.send("said", "s"))
    await asyncio.sleep(0.5)
    dying.kill()
    stage.llm.quick = ("said",)
    await stage.loop.cancel("s")
    assert (await sending).status == "cancelled"
    assert (await stage.in_time(waiting)).final_text == "answer to said"


def test_who_died_in_line_holds_nobody_up_on_its_own_machine() -> None:
    on_stage(_served_after_a_death)
