"""What a handler in a thread gives after nobody waits for it: kept beside the transcript, as evidence for a call in doubt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

import pytest

from power_loop import AgentLoopConfig, RunPolicy, SessionLeaseLost, tool
from power_loop.contracts.store import Statement
from power_loop.testing import FunctionLLM, call, say

NO_GRACE = AgentLoopConfig(running=RunPolicy(cancel_grace_s=0))
STOLEN = "UPDATE pl_sessions SET epoch = epoch + 1, holder = NULL, lease_until = 0 WHERE session_id = ?"


class Works:
    """A handler in a thread that ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def tools(self, gives: Any = "moved after all", **settings: Any) -> list[Any]:
        @tool(effects="once", **settings)
        def move(to: str) -> Any:
            """Move."""
            self.begun.set()
            self.go_on.wait(60)
            if isinstance(gives, Exception):
                raise gives
            return gives

        return [move]


@pytest.fixture
def works() -> Iterator[Works]:
    place = Works()
    yield place
    place.go_on.set()


async def begun(loop: Any, works: Works) -> tuple[str, asyncio.Task[Any]]:
    """A send whose handler runs."""
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asyncio.to_thread(works.begun.wait, 60)
    return session, sending


@pytest.mark.parametrize(
    ("gives", "outcome", "text"), [("moved", "ok", "moved"), (OSError("no disk\ud800"), "failed", "Error: OSError: no disk\ud800")]
)
async def test_the_result_of_a_handler_that_outlives_a_cancel_is_kept(
    house: Any, works: Works, gives: Any, outcome: str, text: str
) -> None:
    loop = house.loop(call("move", to="x"), "fine", tools=works.tools(gives), config=NO_GRACE)
    session, sending = await begun(loop, works)
    await loop.cancel(session)
    assert (await sending).status == "cancelled"
    before = await loop.get_messages(session)
    works.go_on.set()
    [late] = await house.late_of(loop, session)
    assert (late.outcome, late.output, late.name, late.answered) == (outcome, text, "move", "unknown")
    assert await loop.get_messages(session) == before  # it is no part of the transcript
    [finding] = (await loop.doctor(session)).findings
    assert (finding.code, finding.call_id, finding.automatic) == ("unknown_call", late.call_id, False)
    assert "move came to an end after nobody waited for it" in finding.text
    await loop.send("go on", session)
    assert (await loop.doctor(session)).findings == ()


async def test_the_result_of_a_handler_that_ran_out_of_time_is_kept(house: Any, works: Works) -> None:
    loop = house.loop(call("move", to="x"), "fine", tools=works.tools(timeout_s=0.01))
    session, sending = await begun(loop, works)
    assert (await sending).final_text == "fine"
    works.go_on.set()
    [late] = await house.late_of(loop, session)
    assert (late.output, late.answered) == ("moved after all", "unknown")


class Rest(Coroutine[Any, Any, Any]):
    """What a handler in a thread gave to be awaited."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("nobody waits for it any more")

    def send(self, value: Any) -> Any:
        raise AssertionError("nobody runs it any more")

    def throw(self, *args: Any) -> Any:
        raise AssertionError("nobody runs it any more")

    def close(self) -> None:
        self.closed.set()


async def test_a_handler_of_which_only_the_beginning_ran_in_its_thread_is_no_evidence(house: Any, works: Works) -> None:
    rest = Rest()
    loop = house.loop(call("move", to="x"), "fine", tools=works.tools(rest, timeout_s=0.01))
    session, sending = await begun(loop, works)
    await sending
    works.go_on.set()
    either = [asyncio.ensure_future(rest.closed.wait()), asyncio.ensure_future(house.late_of(loop, session))]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    either[1].cancel()
    assert rest.closed.is_set()
    assert await loop.store.late_results(session) == []


async def test_a_handler_that_ends_in_time_leaves_nothing(house: Any, works: Works) -> None:
    loop = house.loop(call("move", to="x"), "fine", tools=works.tools())
    works.go_on.set()
    session, sending = await begun(loop, works)
    await sending
    assert await loop.store.late_results(session) == []


async def test_prune_keys_removes_what_came_late(house: Any, works: Works) -> None:
    loop = house.loop(call("move", to="x"), tools=works.tools(), config=NO_GRACE)
    session, sending = await begun(loop, works)
    await loop.cancel(session)
    await sending
    works.go_on.set()
    await house.late_of(loop, session)
    assert await loop.store.prune_keys(older_than_ms=10**9) == 0
    assert await loop.store.prune_keys(older_than_ms=0) >= 1
    assert await loop.store.late_results(session) == []


async def test_a_deleted_session_keeps_nothing_late(house: Any, works: Works) -> None:
    loop = house.loop(call("move", to="x"), tools=works.tools(), config=NO_GRACE)
    session, sending = await begun(loop, works)
    await loop.cancel(session)
    await sending
    await loop.close_session(session)
    works.go_on.set()
    await loop.aclose()
    assert await house.look("SELECT COUNT(*) FROM pl_late_results") == [(0,)]


# --- the lease is lost ----------------------------------------------------------------------------


def answers(request: Any) -> Any:
    last = request.messages[-1]
    return say(f"so: {last['content']}") if last["role"] == "tool" else call("move", to="x")


async def lost(house: Any, works: Works) -> tuple[str, Any]:
    """A session that was taken from its holder while a handler ran, and what the handler gave."""
    loop = house.loop(llm=FunctionLLM(answers), tools=works.tools())
    session, sending = await begun(loop, works)
    await house.database.write([Statement(STOLEN, (session,))])
    works.go_on.set()
    with pytest.raises(SessionLeaseLost):
        await sending
    [late] = await house.late_of(loop, session)
    return session, late


async def test_who_takes_over_takes_the_late_result_for_the_call_in_doubt(house: Any, works: Works) -> None:
    session, late = await lost(house, works)
    assert (late.output, late.answered) == ("moved after all", None)
    loop = house.loop(llm=FunctionLLM(answers), tools=works.tools())
    codes = [(finding.code, "came to an end" in finding.text) for finding in (await loop.doctor(session)).findings]
    assert codes == [("unknown_call", True), ("unknown_call", False)]
    works.begun.clear()
    assert (await loop.resume(session)).final_text == "so: moved after all"
    assert not works.begun.is_set()  # it was not run again
    assert (await loop.doctor(session)).findings == ()


async def test_a_tool_that_reconciles_is_handed_what_came_late(house: Any, works: Works) -> None:
    session, late = await lost(house, works)

    async def reconcile(run: Any, arguments: Any) -> str:
        assert [found.key for found in run.late] == [run.idempotency_key] == [late.key]
        return f"it says {run.late[0].output!r}"

    loop = house.loop(llm=FunctionLLM(answers), tools=works.tools(reconcile=reconcile))
    assert (await loop.resume(session)).final_text == "so: it says 'moved after all'"


async def test_the_late_result_of_another_attempt_is_not_taken(house: Any, works: Works) -> None:
    session, _ = await lost(house, works)
    await house.database.write([Statement("UPDATE pl_late_results SET call_key = 'another' WHERE session_id = ?", (session,))])
    loop = house.loop(llm=FunctionLLM(answers), tools=works.tools())
    assert "may or may not have taken effect" in (await loop.resume(session)).final_text
