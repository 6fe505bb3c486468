"""How whoever waits for a database learns what became of it."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.database import Answer, Settled, settle

HERE = contextvars.ContextVar("here", default="outside")


def answered(value: object = None, error: Exception | None = None):
    future: Settled[object] = Settled(loop=asyncio.get_running_loop())
    return future, Answer(future, value, error)


async def asleep_on(future: Settled[object], heard: list[object]) -> None:
    HERE.set("in the task")
    try:
        heard.append(await future)
    except Exception as error:
        heard.append(error)
    heard.append(HERE.get())


async def outside_of_tasks(work, *given: object) -> None:
    """``work`` as the event loop calls it, and no step of any task more."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: done.set_result(work(*given)))
    await done


@pytest.mark.parametrize("outcome", [("written", None), (None, StoreUnavailable("gone"))])
async def test_who_waits_goes_on_in_the_step_that_settles_it_in_a_context_of_its_own(outcome):
    future, answer = answered(*outcome)
    heard: list[object] = []
    task = asyncio.create_task(asleep_on(future, heard))
    await asyncio.sleep(0)
    seen: list[list[object]] = []
    await outside_of_tasks(lambda: (settle([answer]), seen.append([*heard])))
    assert seen == [[outcome[0] or outcome[1], "in the task"]]
    await task


async def test_all_who_wait_for_one_answer_hear_it():
    future, answer = answered("written")
    heard: list[object] = []
    tasks = [asyncio.create_task(asleep_on(future, heard)) for _ in range(3)]
    tasks.append(asyncio.create_task(asleep_on(asyncio.shield(future), heard)))
    await asyncio.sleep(0)
    await outside_of_tasks(settle, [answer])
    await asyncio.wait(tasks)
    assert heard == ["written", "in the task"] * 4
    assert await future == "written"


async def test_who_gave_up_waiting_is_not_called():
    future, answer = answered("written")
    heard: list[object] = []
    await asyncio.wait({future}, timeout=0)
    context = contextvars.copy_context()
    future.add_done_callback(heard.append, context=context)
    assert future.remove_done_callback(heard.append) == 1
    await outside_of_tasks(settle, [answer])
    await asyncio.sleep(0)
    assert heard == []


async def test_an_outcome_that_is_set_in_the_midst_of_a_task_wakes_who_waits_a_step_later():
    future, _ = answered()
    heard: list[object] = []
    task = asyncio.create_task(asleep_on(future, heard))
    await asyncio.sleep(0)
    future.set_result("written")
    assert heard == []
    await task
    assert heard == ["written", "in the task"]


def test_who_runs_the_event_loop_from_within_hears_of_those_who_were_to_be_told_next():
    loop = asyncio.new_event_loop()
    heard: list[object] = []
    seen: list[list[object]] = []

    def run_within(_: object) -> None:
        """What makes nested event loops possible does: the rounds of the loop, in the midst of one of its steps."""
        while loop._ready:  # type: ignore[attr-defined]
            loop._run_once()  # type: ignore[attr-defined]
        seen.append([*heard])

    async def four() -> None:
        (first, its), *others = [answered(n) for n in range(4)]
        first.add_done_callback(run_within, context=contextvars.copy_context())
        others[1][0].add_done_callback(run_within, context=contextvars.copy_context())
        waiting = [asyncio.create_task(asleep_on(future, heard)) for future, _ in (others[0], others[2])]
        await asyncio.sleep(0)
        await outside_of_tasks(settle, [its, *(answer for _, answer in others)])
        await asyncio.wait(waiting)

    loop.run_until_complete(four())
    assert seen == [[1, "in the task", 3, "in the task"]] * 2
    loop.close()


def test_what_ends_the_program_out_of_a_task_leaves_nobody_without_an_answer():
    loop = asyncio.new_event_loop()

    async def leaves(future: Settled[object]) -> None:
        await future
        raise SystemExit(3)

    async def two() -> tuple[asyncio.Task[None], list[object]]:
        (first, its), (second, others) = answered("a"), answered("b")
        heard: list[object] = []
        ends, waits = asyncio.create_task(leaves(first)), asyncio.create_task(asleep_on(second, heard))
        await asyncio.sleep(0)
        loop.call_soon(settle, [its, others])
        tasks.extend((ends, waits))
        await waits
        return waits, heard

    tasks: list[asyncio.Task[None]] = []
    run = loop.create_task(two())
    with pytest.raises(SystemExit):
        loop.run_until_complete(run)
    assert loop.run_until_complete(run)[1] == ["b", "in the task"]
    with pytest.raises(SystemExit):
        tasks[0].result()
    loop.close()
