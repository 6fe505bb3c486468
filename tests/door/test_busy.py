"""One driver per session: who comes second waits in order, or is told who holds it before any model is paid."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from power_loop import AgentLoopConfig, HookDirective, RunPolicy, SessionBusyError, SessionStore, StatefulAgentLoop, tool
from power_loop.testing import call, calls, respond


class Holder:
    """A loop inside a model call on a session, until it is let go."""

    def __init__(self, home: Any, *then: str, **settings: Any) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.loop = home.loop(respond(self._answer), *then, **settings)
        self._last = then[-1] if then else "held"
        self.session = ""

    async def _answer(self, request: Any) -> str:
        self.begun.set()
        await self.let_go.wait()
        return "held"

    async def __aenter__(self) -> Holder:
        self.session = await self.loop.new_session()
        self.task = asyncio.create_task(self.loop.send("first", self.session))
        await self.begun.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.let_go.set()
        assert (await self.task).final_text == self._last


# (of the call, of the configuration): how a caller says that it does not wait, or not long
IMPATIENT: dict[str, tuple[dict[str, Any], RunPolicy]] = {
    "raise, by call": ({"on_busy": "raise"}, RunPolicy()),
    "raise, by configuration": ({}, RunPolicy(on_busy="raise")),
    "timeout, by call": ({"busy_timeout_s": 0.02}, RunPolicy()),
    "timeout, by configuration": ({}, RunPolicy(busy_timeout_s=0.02)),
}


# acceptance: 140 (two loop objects)
@pytest.mark.parametrize("how", IMPATIENT)
async def test_a_session_held_by_another_loop_is_refused_with_holder_and_expiry(home: Any, how: str) -> None:
    given, running = IMPATIENT[how]
    async with Holder(home, holder_id="the holder", name="first") as holder:
        other = home.loop(config=AgentLoopConfig(running=running))
        rows = await (await other.ensure_store()).load_all_messages(holder.session)
        with pytest.raises(SessionBusyError) as refused:
            await other.send("second", holder.session, **given)
        error = refused.value
        assert error.session_id == holder.session
        assert "the holder" in (error.holder or "")
        assert 0 < error.expires_at - time.time() * 1000 <= 30_000
        assert "enqueue" in str(error)
        assert other.llm.requests == []
        assert await (await other.ensure_store()).load_all_messages(holder.session) == rows
        assert await other.inbox(holder.session) == []


async def test_waiting_behind_a_neighbour_and_then_for_another_loop_is_one_wait(file_home: Any) -> None:
    async with Holder(file_home) as holder:
        loop, since = file_home.loop(), time.monotonic()
        sends = [loop.send("second", holder.session, busy_timeout_s=1.0), loop.send("third", holder.session, busy_timeout_s=1.5)]
        assert [type(error) for error in await asyncio.gather(*sends, return_exceptions=True)] == [SessionBusyError] * 2
        assert time.monotonic() - since < 2.5, "not 1.0 behind the neighbour and 1.5 for the other loop"


# acceptance: 140 (one loop object)
@pytest.mark.parametrize("how", IMPATIENT)
async def test_a_second_send_of_the_same_loop_is_refused_alike(home: Any, how: str) -> None:
    given, running = IMPATIENT[how]
    async with Holder(home, config=AgentLoopConfig(running=running)) as holder:
        with pytest.raises(SessionBusyError) as refused:
            await holder.loop.send("second", holder.session, **given)
        assert refused.value.session_id == holder.session
        assert refused.value.holder
        assert refused.value.expires_at > time.time() * 1000
        assert len(holder.loop.llm.requests) == 1
        assert [m["content"] for m in await holder.loop.get_messages(holder.session)] == ["first"]


async def test_a_caller_of_its_own_mind_waits_although_the_configuration_would_not(home: Any) -> None:
    async with Holder(home) as holder:
        other = home.loop("second answer", config=AgentLoopConfig(running=RunPolicy(on_busy="raise")))
        waiting = asyncio.create_task(other.send("second", holder.session, on_busy="wait"))
        await asyncio.sleep(0)
        holder.let_go.set()
        assert (await waiting).send_index == 2


async def test_a_refused_caller_may_send_once_the_session_is_free(home: Any) -> None:
    other = home.loop("now")
    async with Holder(home) as holder:
        with pytest.raises(SessionBusyError):
            await other.send("second", holder.session, on_busy="raise")
    assert (await other.send("second", holder.session, on_busy="raise")).final_text == "now"


class Strikes:
    """A database that cancels the task ``victim`` once a statement that names ``table`` was written for it."""

    def __init__(self, database: Any, table: str) -> None:
        self._database, self._table = database, table
        self.dialect = database.dialect
        self.victim: Any = None

    async def read(self, sql: str, params: Any = ()) -> Any:
        return await self._database.read(sql, params)

    async def write(self, batch: Any) -> None:
        await self._database.write(batch)
        if self.victim is not None and any(f"INTO {self._table}" in statement.sql for statement in batch):
            self.victim.cancel()

    async def close(self) -> None:
        await self._database.close()


async def test_a_waiter_that_is_cancelled_leaves_the_line(home: Any) -> None:
    async with Holder(home) as holder:
        stranger = home.loop(llm=holder.loop.llm)
        strikes = Strikes((await stranger.ensure_store()).database, "pl_waiters")
        waiting = StatefulAgentLoop(llm=holder.loop.llm, store=SessionStore(strikes, strikes.dialect))
        for loop in (waiting, holder.loop):
            strikes.victim = task = asyncio.create_task(loop.send("never", holder.session))
            if loop is holder.loop:
                asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await strikes.read("SELECT * FROM pl_waiters") == [], "its ticket would hold up everybody behind it"
        await waiting.aclose()
    after = home.loop("free")
    assert (await after.send("second", holder.session, on_busy="raise")).send_index == 2


@pytest.mark.parametrize("wrong", [{"on_busy": "queue"}, {"busy_timeout_s": -1}, {"busy_timeout_s": "soon"}])
async def test_nonsense_about_waiting_is_refused_before_anything_is_written(home: Any, wrong: dict[str, Any]) -> None:
    loop = home.loop()
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        await loop.send("x", session, **wrong)
    assert await home.contents() == before


async def test_two_loops_with_one_holder_name_still_exclude_each_other(home: Any) -> None:
    async with Holder(home, holder_id="web") as holder:
        twin = home.loop(holder_id="web")
        with pytest.raises(SessionBusyError):
            await twin.send("second", holder.session, on_busy="raise")
        assert twin.llm.requests == []


# --- a veto holds on every way into a session -------------------------------------------------------------------


# acceptance: 49 (send, follow_up, resume)
@pytest.mark.parametrize("way", ["send", "an idle follow_up", "a queued follow_up", "resume"])
async def test_a_vetoed_tool_does_not_run_and_the_model_sees_the_replacement(home: Any, way: str) -> None:
    ran: list[str] = []

    @tool(effects="pure")
    def delete(what: str) -> str:
        """Delete it."""
        ran.append(what)
        return "deleted"

    def veto(ctx: Any) -> HookDirective:
        ctx.output = f"nobody may {ctx.tool_name} {ctx.tool_args['what']}"
        return HookDirective.SKIP

    loop = home.loop(tools=[delete])
    session = await loop.new_session()
    loop.hooks.register("tool.before", veto)
    if way == "resume":
        pending = home.loop(calls(call("delete", what="all")))
        await pending.send("go", session)
        loop.llm.add("I see.")
        result = await loop.resume(session)
    elif way == "a queued follow_up":
        queued: list[Any] = []

        async def more(request: Any) -> str:
            queued.append(await loop.follow_up("delete all", session))
            return "anything else?"

        loop.llm.add(respond(more), call("delete", what="all"), "I see.")
        result = await loop.send("go", session)
        assert queued[0].queue_depth == 1
    else:
        loop.llm.add(call("delete", what="all"), "I see.")
        result = await (loop.send if way == "send" else loop.follow_up)("go", session)
    assert (result.status, result.final_text, ran, result.tool_calls) == ("completed", "I see.", [], 0)
    assert loop.llm.requests[-1].messages[-1]["content"] == "nobody may delete all"
