"""What goes on for a session after its send: others wait for it, but never for what is over or will never be."""

from __future__ import annotations

import asyncio

from power_loop.runtime.afterwards import Aftermath, finish

LONG_S = 30.0


async def test_what_is_over_is_waited_for_no_longer() -> None:
    forgotten: list[str] = []
    aftermath = Aftermath("s")
    aftermath.start(asyncio.sleep(0), "fold", lambda: forgotten.append("s"))
    await aftermath.wait()
    assert (forgotten, aftermath.goes_on) == (["s"], False)
    await aftermath.wait()
    await finish([aftermath], LONG_S)


async def test_what_takes_too_long_is_given_up() -> None:
    aftermath = Aftermath("s")
    aftermath.start(asyncio.Event().wait(), "fold", lambda: None)
    await finish([aftermath], 0.01)
    assert not aftermath.goes_on


def test_what_an_event_loop_left_when_it_was_closed_holds_nobody_up() -> None:
    loop = asyncio.new_event_loop()
    wakes = asyncio.Event()

    async def begin() -> tuple[Aftermath, asyncio.Task[None]]:
        aftermath = Aftermath("s")
        aftermath.start(wakes.wait(), "fold", lambda: None)
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
        return aftermath, task

    aftermath, left = loop.run_until_complete(begin())
    loop.close()
    aftermath.cancel()
    asyncio.run(aftermath.wait())
    asyncio.run(finish([aftermath], LONG_S))
    assert not left.done()
    left._log_destroy_pending = False  # nobody shall be told: it is what this test is about
