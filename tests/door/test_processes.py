"""One loop object from several threads, event loops and processes: it belongs to none of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scarce import no_threads

from power_loop import StatefulAgentLoop, tool
from power_loop.sync import BlockingTwin
from power_loop.testing import FunctionLLM, call, say


@tool(effects="pure")
def thread_name() -> str:
    """Say where it runs."""
    return threading.current_thread().name


def model() -> FunctionLLM:
    """Calls the tool first, then says how many messages it saw."""

    def answer(request: Any) -> Any:
        return call("thread_name") if request.messages[-1]["role"] == "user" else say(f"{len(request.messages)} seen")

    return FunctionLLM(answer)


def in_threads(work: Any, n: int) -> list[Any]:
    """What ``work(0)`` to ``work(n - 1)`` give, each in a thread of its own, all at once."""
    results: list[Any] = [None] * n

    def run(at: int) -> None:
        try:
            results[at] = work(at)
        except BaseException as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.fixture(params=["sqlite", "memory"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "app.db") if request.param == "sqlite" else ":memory:"


# --- threads and event loops --------------------------------------------------------------------------------------------


def test_eight_event_loops_at_once_drive_their_own_sessions_with_one_loop_object(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name], session_cache_size=2)

    async def talk(at: int) -> list[Any]:
        session = await loop.new_session(session_id=f"session-{at}")
        return [(await loop.send(f"{n}", session)).final_text for n in range(5)]

    results = in_threads(lambda at: asyncio.run(talk(at)), 8)
    assert results == [[f"{4 * n + 3} seen" for n in range(5)]] * 8
    assert loop.cache_stats.entries <= 2
    asyncio.run(loop.aclose())


def test_eight_event_loops_at_once_take_turns_on_one_session(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name])
    session = loop.new_session_sync()
    results = in_threads(lambda at: asyncio.run(loop.send(f"from {at}", session)).send_index, 8)
    assert sorted(results) == list(range(1, 9))

    async def roles() -> list[str]:
        return [m["role"] for m in await loop.get_messages(session)]

    assert asyncio.run(roles()) == ["user", "assistant", "tool", "assistant"] * 8
    loop.close()


def test_sync_calls_from_several_threads_share_one_private_event_loop(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name])
    results = in_threads(lambda at: loop.run_sync(f"from {at}").final_text, 8)
    assert results == ["3 seen"] * 8
    loop.close()


def test_opening_at_once_from_several_event_loops_opens_one_store(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn)
    stores = in_threads(lambda at: asyncio.run(loop.ensure_store()), 8)
    assert {id(store) for store in stores} == {id(loop.store)}
    asyncio.run(loop.aclose())


# --- the blocking twins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["send", "follow_up", "run", "new_session"])
async def test_a_blocking_call_inside_a_running_event_loop_names_its_awaitable_twin(home: Any, verb: str) -> None:
    loop = home.loop()
    session = await loop.new_session()
    arguments = {"run": ("x",), "new_session": ()}.get(verb, ("x", session))
    with pytest.raises(RuntimeError, match=rf"await {verb}\(\)"):
        getattr(loop, f"{verb}_sync")(*arguments)
    with pytest.raises(RuntimeError, match="aclose"):
        loop.close()
    assert loop.llm.requests == []


def test_blocking_calls_need_no_event_loop_and_raise_what_the_awaitable_ones_raise(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name])
    session = loop.new_session_sync(system_prompt="Be brief.")
    assert loop.send_sync("x", session).final_text == "3 seen"
    assert loop.follow_up_sync("y", session).final_text == "7 seen"
    with pytest.raises(ValueError, match="empty"):
        loop.send_sync("", session)
    loop.close()
    with pytest.raises(RuntimeError, match="aclose"):
        loop.send_sync("x", session)
    assert not [thread for thread in threading.enumerate() if thread.name == "power-loop-sync"]


@pytest.mark.parametrize("ends", [SystemExit, KeyboardInterrupt])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_private_event_loop_is_raised_and_the_next_call_has_another(dsn: str, ends: type[BaseException]) -> None:
    def end(_: Any) -> None:
        raised.append(ends)
        if len(raised) == 1:
            raise ends("from a hook")

    raised: list[Any] = []
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name])
    loop.hooks.register("llm.before", end)
    with pytest.raises(ends, match="from a hook"):
        loop.run_sync("x")
    assert loop.run_sync("y").final_text == "3 seen"
    loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_work_that_ends_its_private_event_loop_once_more_while_it_ends_leaves_nobody_waiting() -> None:
    twin, begun = BlockingTwin(), threading.Semaphore(0)

    async def waits() -> None:
        begun.release()
        await asyncio.get_running_loop().create_future()

    async def stubborn() -> None:
        try:
            await waits()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    async def ends() -> None:
        raise KeyboardInterrupt

    def call(work: Any) -> None:
        with suppress(KeyboardInterrupt, asyncio.CancelledError, concurrent.futures.CancelledError):
            twin.run(work(), twin="x")

    callers = [threading.Thread(target=call, args=(work,), daemon=True) for work in (waits, stubborn, stubborn)]
    for caller in callers:
        caller.start()
        begun.acquire()
    call(ends)
    private = [thread for thread in threading.enumerate() if thread.name == "power-loop-sync"]
    for thread in (*callers, *private):
        thread.join(100)
        assert not thread.is_alive(), "it waits for ever"


def test_a_private_event_loop_that_finds_no_thread_is_begun_by_the_next_call(dsn: str) -> None:
    loop = StatefulAgentLoop(llm=model(), dsn=dsn, tools=[thread_name])
    with no_threads(), pytest.raises(RuntimeError, match="thread"):
        loop.run_sync("x")
    assert loop.run_sync("x").final_text == "3 seen"
    loop.close()


def test_what_a_signals_handler_raises_in_the_caller_cancels_the_work(dsn: str) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def never(_: Any) -> str:
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    def give_up(*_: object) -> None:
        raise TimeoutError("the caller's own")

    def ring() -> None:
        begun.wait(30)
        os.kill(os.getpid(), signal.SIGUSR1)

    usual = signal.signal(signal.SIGUSR1, give_up)
    loop = StatefulAgentLoop(llm=FunctionLLM(never), dsn=dsn)
    bell = threading.Thread(target=ring)
    bell.start()
    with pytest.raises(TimeoutError, match="the caller's own"):
        loop.run_sync("x")
    assert cancelled.wait(30)
    bell.join()
    signal.signal(signal.SIGUSR1, usual)
    loop.close()


# --- forks --------------------------------------------------------------------------------------------------------------


FORKS = """
import asyncio, os, sys, threading
from power_loop import SessionBusyError, StatefulAgentLoop
from power_loop.testing import FunctionLLM, call, say

def tool() -> str:
    '''A synchronous tool.'''
    return threading.current_thread().name

inside, go_on = threading.Event(), threading.Event()

def answer(request):
    if request.messages[-1]["content"] == "held by the parent":
        inside.set()
        go_on.wait(60)
        return say("held")
    return call("tool") if request.messages[-1]["role"] == "user" else say(f"{len(request.messages)} seen")

loop = StatefulAgentLoop(llm=FunctionLLM(answer), dsn=sys.argv[1], tools=[tool], holder_id="the same name")

def forked(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\\n".encode())
        finally:
            os._exit(code)
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""

AFTERWARDS = (
    FORKS
    + """
session = loop.new_session_sync()
assert loop.send_sync("one", session).final_text == "3 seen"

def child():
    assert loop.send_sync("two", session).final_text == "7 seen"
    assert asyncio.run(loop.send("three", session)).final_text == "11 seen"
    assert loop.cache_stats.entries == 1
    loop.close()

ended(forked(child))
assert loop.send_sync("four", session).final_text == "15 seen"
children = [forked(lambda: loop.run_sync("a session of my own")) for _ in range(4)]
assert loop.send_sync("five", session).final_text == "19 seen"
for each in children:
    ended(each)
loop.close()
print("fine")
"""
)

IN_THE_MIDDLE = (
    FORKS
    + """
session = loop.new_session_sync()
sender = threading.Thread(target=lambda: print(loop.send_sync("held by the parent", session).final_text))
sender.start()
inside.wait(60)

def child():
    try:
        loop.send_sync("may I?", session, on_busy="raise")
    except SessionBusyError as busy:
        assert "the same name" in busy.holder
        return
    raise AssertionError("the child drove a session that its parent drives")

ended(forked(child))
go_on.set()
sender.join(60)
loop.close()
print("fine")
"""
)


# acceptance: 115 (a forked child)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("script", [AFTERWARDS, IN_THE_MIDDLE], ids=["after sends", "in the middle of one"])
def test_a_forked_child_uses_the_store_anew_and_leaves_its_parents_sends_alone(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), str(tmp_path / "app.db")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr, done.returncode) == (["held", "fine"] if script is IN_THE_MIDDLE else ["fine"], "", 0)
