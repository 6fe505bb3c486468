"""`Scope`: our cut ends the deed tidily, the caller's cancellation passes through, and neither leaves a trace."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable
from contextlib import suppress

import pytest

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.records import StopRequested
from power_loop.runtime.cancel import Cut, Scope, cut_short

STOP = StopRequested("cancelled", "enough", "cancel")
LATER = StopRequested("completed", "too late", "token")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def deed(scope: Scope, work: Awaitable[None]) -> None:
    with scope:
        await work


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_a_stop_cuts_the_deed_under_way() -> None:
    scope = Scope()
    asyncio.get_running_loop().call_soon(scope.request, STOP)
    with pytest.raises(Cut):
        await deed(scope, forever())
    assert scope.stop == STOP
    assert cancelling() == 0
    await asyncio.sleep(0)  # the task goes on as if nothing had been cancelled


async def test_a_stop_from_another_thread_cuts_it_too() -> None:
    scope = Scope()
    thread = threading.Thread(target=scope.request, args=(STOP,))
    asyncio.get_running_loop().call_soon(thread.start)
    with pytest.raises(Cut):
        await deed(scope, forever())
    thread.join()
    assert cancelling() == 0


async def test_a_stop_between_deeds_cancels_nothing_but_lets_no_further_one_begin() -> None:
    scope = Scope()
    with scope:
        await asyncio.sleep(0)
    scope.request(STOP)
    await asyncio.sleep(0)
    assert cancelling() == 0
    begun = forever()
    with pytest.raises(Cut):
        await deed(scope, begun)
    begun.close()


async def test_a_deed_that_ended_before_the_cut_reached_it_stands() -> None:
    scope = Scope()
    with scope:
        scope.request(STOP)  # the cut is on its way, and comes when the deed is over
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert cancelling() == 0


async def test_the_first_stop_stands() -> None:
    scope = Scope()
    scope.request(STOP)
    scope.request(LATER)
    assert scope.stop == STOP


async def test_the_callers_own_cancellation_passes_through() -> None:
    async def sends() -> None:
        with Scope():
            await forever()

    task = asyncio.create_task(sends())
    await asyncio.sleep(0)
    task.cancel("the caller's word")
    with pytest.raises(asyncio.CancelledError, match="the caller's word"):
        await task


@pytest.mark.parametrize("ours_first", [True, False])
async def test_when_both_cancel_the_callers_word_counts(ours_first: bool) -> None:
    scopes: list[Scope] = []

    async def sends() -> None:
        scopes.append(Scope())
        with scopes[0]:
            await forever()

    task = asyncio.create_task(sends())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    if ours_first:
        scopes[0].request(STOP)
        loop.call_soon(task.cancel)
    else:
        loop.call_soon(task.cancel)
        scopes[0].request(STOP)
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_deed_inside_an_earlier_cancellation_can_still_be_cut() -> None:
    """Someone cancelled the task before and was overruled: that count is not ours."""

    async def sends() -> int:
        with suppress(asyncio.CancelledError):
            await forever()
        scope = Scope()
        asyncio.get_running_loop().call_soon(scope.request, STOP)
        with pytest.raises(Cut):
            await deed(scope, forever())
        return cancelling()

    task = asyncio.create_task(sends())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 1


async def test_a_deed_that_swallows_the_cut_keeps_its_result_and_leaves_no_cancellation_behind() -> None:
    scope = Scope()
    asyncio.get_running_loop().call_soon(scope.request, STOP)
    with scope:
        with suppress(asyncio.CancelledError):
            await forever()
        result = "what it found out"
    assert result
    assert cancelling() == 0


async def test_a_client_that_wraps_the_cut_in_an_error_of_its_own_was_cut_all_the_same() -> None:
    async def wraps() -> None:
        try:
            await forever()
        except asyncio.CancelledError as error:
            raise ConnectionError from error

    scope = Scope()
    asyncio.get_running_loop().call_soon(scope.request, STOP)
    with pytest.raises(Cut):
        await deed(scope, wraps())
    assert cancelling() == 0


async def test_an_error_without_a_cut_is_an_error() -> None:
    with pytest.raises(ConnectionError), Scope():
        raise ConnectionError
    with pytest.raises(SystemExit), Scope():
        raise SystemExit


async def test_a_cut_is_no_timeout() -> None:
    scope = Scope()
    asyncio.get_running_loop().call_soon(scope.request, STOP)
    with pytest.raises(Cut):
        await deed(scope, asyncio.wait_for(forever(), 60))


async def test_the_token_for_handlers_is_cancelled_with_the_reason() -> None:
    scope = Scope()
    token = scope.token
    assert not token.is_cancelled()
    scope.request(STOP)
    assert (token.is_cancelled(), token.reason) == (True, "enough")
    assert scope.token is token
    late = Scope()
    late.request(STOP)
    assert late.token.reason == "enough"


@pytest.mark.parametrize("ends", [ZeroDivisionError, SystemExit])
async def test_a_listener_of_the_token_that_raises_does_not_keep_the_deed_from_being_cut(ends: type[BaseException]) -> None:
    def listener(_: str) -> None:
        raise ends

    def stop() -> None:
        with suppress(SystemExit):
            scope.request(STOP)

    scope = Scope()
    scope.token.on_cancel(listener)
    asyncio.get_running_loop().call_soon(stop)
    with pytest.raises(Cut):
        await deed(scope, forever())


async def test_work_that_fails_while_its_caller_is_cancelled_is_not_reported_as_lost() -> None:
    async def falls() -> None:
        try:
            await forever()
        finally:
            raise ZeroDivisionError("on its way out")

    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
    caller = asyncio.create_task(cut_short(falls(), CancellationToken()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with suppress(asyncio.CancelledError):
        await caller
    del caller
    await asyncio.sleep(0)  # the event loop lets go of it
    gc.collect()
    assert lost == []


async def test_a_cancel_of_the_caller_while_its_work_ends_for_the_token_is_not_lost() -> None:
    ending, token = asyncio.Event(), CancellationToken()

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            ending.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    caller = asyncio.create_task(cut_short(slow_to_end(), token))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    token.cancel()
    await ending.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_a_stop_after_the_event_loop_is_gone_harms_nobody() -> None:
    async def make() -> Scope:
        return Scope()

    scope = asyncio.run(make())
    scope.request(STOP)
    assert scope.stop == STOP
