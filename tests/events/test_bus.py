"""The bus with inline dispatch: who hears what, in which order, and what a listener cannot do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from power_loop.contracts.events import AgentEvent, AgentEventType
from power_loop.runtime.bus import AgentEventBus

DELTA, ENDED = AgentEvent("stream_delta", {"text": "a"}), AgentEvent("session_ended")


class Odd(BaseException):
    """Not an `Exception`, as what a test framework raises is not."""


def writing(heard: list[str], word: str) -> Callable[[AgentEvent], None]:
    return lambda _: heard.append(word)


def raising(error: BaseException) -> Callable[[AgentEvent], None]:
    def hear(_: AgentEvent) -> None:
        raise error

    return hear


def test_a_subscriber_hears_its_type_and_one_without_a_type_hears_all() -> None:
    bus, deltas, all_events = AgentEventBus(), list[AgentEvent](), list[AgentEvent]()
    bus.subscribe(AgentEventType.STREAM_DELTA, deltas.append)
    bus.subscribe(None, all_events.append)
    bus.publish(DELTA)
    bus.publish(ENDED)
    assert deltas == [DELTA]
    assert all_events == [DELTA, ENDED]


def test_lower_priority_hears_first_then_who_hears_all_then_who_came_first() -> None:
    bus, heard = AgentEventBus(), list[str]()
    for type, word, priority in [
        ("stream_delta", "typed", 0), ("stream_delta", "typed, later", 0), (None, "all", 0), (None, "all, last", 5),
        ("stream_delta", "first", -1),
    ]:  # fmt: skip
        bus.subscribe(type, writing(heard, word), priority=priority)
    bus.publish(DELTA)
    assert heard == ["first", "all", "typed", "typed, later", "all, last"]


def test_a_bus_that_nobody_listens_to_is_silent_and_wants_nothing() -> None:
    bus = AgentEventBus()
    assert bus.silent
    assert not bus.wants("stream_delta")
    bus.publish(DELTA)


@pytest.mark.parametrize(("type", "wanted"), [("stream_delta", ["stream_delta"]), (None, ["stream_delta", "session_ended", "my_own"])])
def test_a_bus_wants_what_somebody_listens_to(type: str | None, wanted: list[str]) -> None:
    bus = AgentEventBus()
    bus.subscribe(type, print)
    assert not bus.silent
    assert [each for each in ("stream_delta", "session_ended", "my_own") if bus.wants(each)] == wanted
    bus.unsubscribe(print)
    assert bus.silent
    assert not bus.wants("stream_delta")


def test_unsubscribing_ends_every_subscription_of_the_handler() -> None:
    bus, heard = AgentEventBus(), list[AgentEvent]()
    for type in ("stream_delta", "session_ended", None):
        bus.subscribe(type, heard.append)
    bus.unsubscribe(heard.append)
    bus.unsubscribe(print)
    bus.publish(DELTA)
    assert heard == []


def test_a_listener_may_leave_while_it_is_told() -> None:
    bus, heard = AgentEventBus(), list[str]()

    def once(_: AgentEvent) -> None:
        heard.append("once")
        bus.unsubscribe(once)

    bus.subscribe(None, once)
    bus.subscribe(None, writing(heard, "always"))
    bus.publish(DELTA)
    bus.publish(DELTA)
    assert heard == ["once", "always", "always"]


@pytest.mark.parametrize(
    "wrong",
    [{"sync_dispatch": "process"}, {"on_overflow": "explode"}, {"queue_maxsize": 0}],
    ids=lambda each: str(*each),
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(*wrong)):
        AgentEventBus(**wrong)


def test_what_cannot_be_called_cannot_subscribe() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="None"):
        AgentEventBus().subscribe("stream_delta", nothing)


# --- subscribers that raise ----------------------------------------------------------------------


# acceptance: 58
def test_a_raising_subscriber_disturbs_neither_the_publisher_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = AgentEventBus(), list[str]()
    bus.subscribe(None, raising(ValueError("no")), priority=-1)
    bus.subscribe(None, writing(heard, "told"))
    with caplog.at_level(logging.ERROR, logger="power_loop"):
        bus.publish(DELTA)
        bus.publish(ENDED)
    assert heard == ["told", "told"]
    assert bus.errors == 2
    assert len(caplog.records) == 1, "logged once per handler"


# acceptance: 58
def test_a_cancelled_future_in_a_listener_does_not_cancel_who_publishes(caplog: pytest.LogCaptureFixture) -> None:
    bus = AgentEventBus(suppress_subscriber_errors=False)
    bus.subscribe(None, raising(asyncio.CancelledError()))
    bus.publish(DELTA)
    assert bus.errors == 1
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize("error", [Odd("no"), GeneratorExit()], ids=["Odd", "GeneratorExit"])
def test_a_subscriber_that_raises_what_is_no_exception_disturbs_nobody_either(error: BaseException) -> None:
    bus, heard = AgentEventBus(), list[str]()
    bus.subscribe(None, raising(error), priority=-1)
    bus.subscribe(None, writing(heard, "told"))
    bus.publish(DELTA)
    assert heard == ["told"]
    assert bus.errors == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["KeyboardInterrupt", "SystemExit"])
def test_what_ends_the_program_is_no_error_of_a_subscriber(error: BaseException) -> None:
    bus = AgentEventBus()
    bus.subscribe(None, raising(error))
    with pytest.raises(type(error)):
        bus.publish(DELTA)
    assert bus.errors == 0


def test_each_raising_handler_is_logged_and_again_after_it_subscribed_anew(caplog: pytest.LogCaptureFixture) -> None:
    bus, first, second = AgentEventBus(), raising(ValueError("first")), raising(ValueError("second"))
    bus.subscribe("stream_delta", first)
    bus.subscribe("session_ended", first)
    bus.subscribe(None, second)
    bus.publish(DELTA)
    bus.publish(ENDED)
    assert (bus.errors, len(caplog.records)) == (4, 2)
    bus.unsubscribe(first)
    bus.subscribe(None, first)
    bus.publish(DELTA)
    assert (bus.errors, len(caplog.records)) == (6, 3)


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize("error", [ValueError("first"), Odd("first")], ids=["ValueError", "Odd"])
def test_unsuppressed_the_first_error_reaches_the_caller_after_every_other_subscriber_was_told(error: BaseException) -> None:
    bus, heard = AgentEventBus(suppress_subscriber_errors=False), list[str]()
    bus.subscribe(None, raising(error))
    bus.subscribe(None, raising(KeyError("second")))
    bus.subscribe(None, writing(heard, "told"))
    with pytest.raises(type(error), match="first"):
        bus.publish(DELTA)
    assert heard == ["told"]
    assert bus.errors == 2


@pytest.mark.parametrize("suppressed", [True, False])
async def test_an_async_subscriber_that_raises_reaches_only_who_awaits_it(suppressed: bool) -> None:
    bus, heard = AgentEventBus(suppress_subscriber_errors=suppressed), list[AgentEvent]()

    async def hear(_: AgentEvent) -> None:
        await asyncio.sleep(0)
        raise ValueError("async")

    bus.subscribe(None, hear)
    bus.subscribe(None, heard.append)
    bus.publish(DELTA)
    assert await bus.drain()
    if suppressed:
        await bus.publish_async(DELTA)
    else:
        with pytest.raises(ValueError, match="async"):
            await bus.publish_async(DELTA)
    assert bus.errors == 2
    assert heard == [DELTA, DELTA]


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize("error", [Odd("no"), asyncio.CancelledError()], ids=["Odd", "CancelledError"])
async def test_whatever_an_async_subscriber_raises_is_counted_and_ends_nobody_else(error: BaseException) -> None:
    bus, heard = AgentEventBus(), list[AgentEvent]()

    async def hear(_: AgentEvent) -> None:
        await asyncio.sleep(0)
        raise error

    bus.subscribe(None, hear, priority=-1)
    bus.subscribe(None, heard.append)
    bus.publish(DELTA)
    assert await bus.drain()
    await bus.publish_async(ENDED)
    assert heard == [DELTA, ENDED]
    assert bus.errors == 2


async def test_a_cancel_of_who_publishes_passes_through_the_handler_that_is_awaited() -> None:
    bus, begun = AgentEventBus(), asyncio.Event()

    async def hear(_: AgentEvent) -> None:
        begun.set()
        await asyncio.Event().wait()

    bus.subscribe(None, hear)
    publishing = asyncio.create_task(bus.publish_async(DELTA))
    await begun.wait()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert bus.errors == 0


# --- async subscribers -----------------------------------------------------------------------------


async def test_an_async_handler_runs_as_a_task_and_drain_waits_for_it() -> None:
    bus, heard, gate = AgentEventBus(), list[AgentEvent](), asyncio.Event()

    async def hear(event: AgentEvent) -> None:
        await gate.wait()
        heard.append(event)

    bus.subscribe(None, hear)
    bus.publish(DELTA)
    assert not await bus.drain(timeout=0)
    assert heard == []
    gate.set()
    assert await bus.drain()
    assert heard == [DELTA]


async def test_async_handlers_begin_in_the_order_of_the_events() -> None:
    bus, heard = AgentEventBus(), list[int]()

    async def hear(event: AgentEvent) -> None:
        heard.append(event.payload["n"])
        await asyncio.sleep(0)

    bus.subscribe(None, hear)
    for n in range(5):
        bus.publish(AgentEvent("my_own", {"n": n}))
    await bus.drain()
    assert heard == [0, 1, 2, 3, 4]


async def test_publish_async_returns_when_async_handlers_have_finished_in_order() -> None:
    bus, heard = AgentEventBus(), list[str]()

    async def slow(_: AgentEvent) -> None:
        await asyncio.sleep(0)
        heard.append("slow")

    bus.subscribe(None, slow)
    bus.subscribe(None, writing(heard, "quick"))
    await bus.publish_async(DELTA)
    assert heard == ["slow", "quick"]


async def test_a_callable_object_may_be_an_async_handler() -> None:
    class Sink:
        def __init__(self) -> None:
            self.heard: list[AgentEvent] = []

        async def __call__(self, event: AgentEvent) -> None:
            self.heard.append(event)

    sink = Sink()
    for dispatch in ("inline", "thread"):
        bus = AgentEventBus(sync_dispatch=dispatch)  # type: ignore[arg-type] # one of the two literals
        bus.subscribe(None, sink)
        bus.publish(DELTA)
        await bus.drain()
    assert sink.heard == [DELTA, DELTA]


async def test_drain_waits_for_what_handlers_publish_and_not_for_itself() -> None:
    bus, heard = AgentEventBus(), list[str]()

    async def hear(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        heard.append(event.type)
        if event == DELTA:
            bus.publish(ENDED)
            await bus.drain()
            heard.append("drained")

    bus.subscribe(None, hear)
    bus.publish(DELTA)
    assert await bus.drain()
    assert heard == ["stream_delta", "session_ended", "drained"]


def test_without_any_event_loop_an_async_handler_runs_to_its_end_at_once() -> None:
    bus, heard = AgentEventBus(), list[AgentEvent]()

    async def hear(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    bus.subscribe(None, hear)
    bus.publish(DELTA)
    assert heard == [DELTA]


async def test_from_a_thread_an_async_handler_runs_where_it_subscribed() -> None:
    bus, ran_in = AgentEventBus(), list[threading.Thread]()

    async def hear(_: AgentEvent) -> None:
        ran_in.append(threading.current_thread())

    bus.subscribe(None, hear)
    thread = threading.Thread(target=bus.publish, args=(DELTA,))
    thread.start()
    thread.join()
    await bus.drain()
    assert ran_in == [threading.main_thread()]


async def test_drain_waits_for_the_tasks_of_another_event_loop() -> None:
    bus, heard = AgentEventBus(), list[AgentEvent]()
    begun, gate = threading.Event(), asyncio.Event()

    async def elsewhere() -> None:
        async def hear(event: AgentEvent) -> None:
            begun.set()
            await there.wait()
            heard.append(event)

        there = asyncio.Event()
        bus.subscribe(None, hear)
        bus.publish(DELTA)
        loop = asyncio.get_running_loop()
        opened.append(lambda: loop.call_soon_threadsafe(there.set))
        await bus.drain()

    opened: list[Callable[[], Any]] = []
    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.to_thread(begun.wait)
    draining = asyncio.create_task(bus.drain())
    gate.set()
    opened[0]()
    assert await draining
    assert heard == [DELTA]
    thread.join()


# acceptance: 51 (the bus)
def test_two_buses_do_not_know_each_other() -> None:
    one, two, heard = AgentEventBus(), AgentEventBus(), list[AgentEvent]()
    one.subscribe(None, heard.append)
    two.publish(DELTA)
    assert heard == []
    assert two.silent
