"""`TimerRunner`: who is woken, how often, and what is left to others."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from operating import Place

from power_loop import HookDirective, HumanInputRequired, TimerRunner, Worker, tool
from power_loop.contracts.records import UserSaid
from power_loop.testing import FunctionLLM, ScriptedLLM, call, fail, say


@tool
def ask_boss() -> str:
    """Ask somebody."""
    raise HumanInputRequired("May I?", kind="text")


def heard(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


def slow() -> tuple[FunctionLLM, asyncio.Event, asyncio.Event]:
    """A model, the event that says that it was asked, and the one that lets it answer."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def reply(request: Any) -> str:
        asked.set()
        await answer.wait()
        return "heard"

    return FunctionLLM(reply), asked, answer


# acceptance: 109
async def test_a_runner_wakes_a_session_once_and_a_recurring_one_on_its_nominal_times(stand: Any) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    once = await loop.schedule_timer(session, delay_s=10, note="look at the oven")
    often = await loop.schedule_timer(session, delay_s=60, note="tick", interval_s=60)
    runner = TimerRunner(loop)
    assert await runner.scan_once() == 0
    await stand.time.advance(10)
    assert await runner.scan_once() == 1
    assert await runner.scan_once() == 0
    for _ in range(3):
        await stand.time.advance(60)
        assert await runner.scan_once() == 1
    said = heard(await loop.get_messages(session))
    assert [text.count(f"<timer id={once.timer_id}>look at the oven</timer>") for text in said] == [1, 0, 0, 0]
    assert [text.count(f"<timer id={often.timer_id}>tick</timer>") for text in said] == [0, 1, 1, 1]
    [armed] = await loop.list_timers(session)
    assert (armed.due_at, armed.fire_count) == (often.due_at + 180_000, 3), "late scans do not make it drift"
    assert await loop.cancel_timer(session, often.timer_id)
    await stand.time.advance(600)
    assert await runner.scan_once() == 0


# acceptance: 49 (a send that a timer begins)
async def test_a_veto_holds_in_a_send_that_a_timer_begins(stand: Any) -> None:
    ran: list[str] = []

    @tool(effects="pure")
    def delete(what: str) -> str:
        """Delete."""
        ran.append(what)
        return "deleted"

    def veto(ctx: Any) -> HookDirective:
        ctx.output = "not on my watch"
        return HookDirective.SKIP

    loop = stand.loop(ScriptedLLM([call("delete", what="all"), say("I see.")]), tools=[delete])
    loop.hooks.register("tool.before", veto)
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=1, note="tidy up")
    await stand.time.advance(1)
    assert await TimerRunner(loop).scan_once() == 1
    assert [message["content"] for message in await loop.get_messages(session)][2:] == ["not on my watch", "I see."]
    assert ran == []


# acceptance: 109 (periods missed)
async def test_what_was_missed_while_nobody_ran_is_one_firing_on_the_nominal_grid(stand: Any) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    timer = await loop.schedule_timer(session, delay_s=10, note="tick", interval_s=10)
    nightly = await loop.schedule_timer(session, cron="*/15 * * * *", note="quarter")
    await stand.time.advance(3605)
    assert await TimerRunner(loop).scan_once() == 2
    armed = {each.timer_id: each for each in await loop.list_timers(session)}
    assert armed[timer.timer_id].due_at == timer.due_at + 3_600_000
    assert armed[nightly.timer_id].due_at == nightly.due_at + 3_600_000
    assert [each.fire_count for each in armed.values()] == [1, 1]
    assert len(heard(await loop.get_messages(session))) == 1, "one send heard both"


# acceptance: 110
async def test_without_a_runner_nothing_fires_and_an_external_scheduler_does_as_well(stand: Any) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    timer = await loop.schedule_timer(session, delay_s=5, note="wake up")
    await stand.time.advance(60)
    assert await stand.inbox(session) == []
    assert [due.timer_id for due in await stand.due_timers()] == [timer.timer_id]
    assert (await stand.fire_due(), await stand.fire_due()) == (1, 0)
    assert await stand.notes(session) == [f"<timer id={timer.timer_id}>wake up</timer>"]
    assert (await loop.send("hello", session)).status == "completed"
    assert "wake up" in str(await loop.get_messages(session))


async def test_sessions_are_woken_side_by_side(stand: Any) -> None:
    together = asyncio.Barrier(4)

    async def meets(request: Any) -> Any:
        async with asyncio.timeout(60):
            await together.wait()
        return say("met")

    loop = stand.loop(FunctionLLM(meets))
    sessions = [await loop.new_session() for _ in range(4)]
    for session in sessions:
        await loop.schedule_timer(session, delay_s=1, note="meet")
    await stand.time.advance(1)
    assert await TimerRunner(loop, max_concurrency=4).scan_once() == 4
    assert [(await loop.get_messages(session))[-1]["content"] for session in sessions] == ["met"] * 4


async def test_a_session_that_waits_for_a_person_keeps_one_note_however_often_its_timer_is_due(stand: Any) -> None:
    loop = stand.loop(ScriptedLLM([call("ask_boss"), say("thanks"), say("awake")]), tools=[ask_boss])
    session = await loop.new_session()
    waiting = await loop.send("ask", session)
    assert waiting.status == "waiting_for_input"
    timer = await loop.schedule_timer(session, delay_s=10, note="tick", interval_s=10)
    runner = TimerRunner(loop)
    for _ in range(20):
        await stand.time.advance(10)
        await runner.scan_once()
    assert await stand.notes(session) == [f"<timer id={timer.timer_id}>tick</timer>"]
    [armed] = await loop.list_timers(session)
    assert (armed.fire_count, armed.due_at) == (1, timer.due_at + 200_000), "firings are counted; the grid goes on"
    [question] = waiting.pending_interactions
    result = await loop.submit_input(session, question["interaction_id"], "yes")
    assert result.status == "completed"
    assert str(await loop.get_messages(session)).count("<timer id=") == 1
    await stand.time.advance(10)
    assert await runner.scan_once() == 1, "heard, so it fires again"


async def test_a_session_in_hand_hears_the_note_from_its_own_driver(stand: Any) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(request: Any) -> Any:
        asked.set()
        await go.wait()
        return say(f"seen {str(request.messages).count('<timer id=')}")

    loop, told = stand.loop(FunctionLLM(slowly)), []
    loop.event_bus.subscribe("timer_fired", lambda event: told.append((event.data.outcome, event.data.note)))
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=0, note="psst")
    sending = asyncio.create_task(loop.send("hello", session))
    await asked.wait()
    assert await TimerRunner(loop).scan_once() == 1
    go.set()
    result = await sending
    assert result.final_text == "seen 1"
    assert told == [("queued", "psst"), ("delivered", "psst")]


async def test_a_runner_looks_after_the_sessions_of_its_own_agent_only(stand: Any) -> None:
    mine, other = stand.loop(), stand.loop(name="other")
    own, foreign = await mine.new_session(), await other.new_session()
    for loop, session in ((mine, own), (other, foreign)):
        await loop.schedule_timer(session, delay_s=1, note="wake up")
    await stand.time.advance(1)
    assert await TimerRunner(mine).scan_once() == 1
    assert len(await mine.get_messages(own)) == 2
    assert (await other.get_messages(foreign), await stand.notes(foreign)) == ([], [])
    assert await TimerRunner(other).scan_once() == 1
    assert len(await other.get_messages(foreign)) == 2


async def test_a_runner_leaves_enqueued_words_to_workers(stand: Any) -> None:
    loop = stand.loop()
    queued, timed = await loop.new_session(), await loop.new_session()
    await loop.enqueue("for a worker", queued)
    await loop.schedule_timer(timed, delay_s=1, note="for the runner")
    await stand.time.advance(1)
    await TimerRunner(loop).scan_once()
    assert [len(await loop.get_messages(session)) for session in (queued, timed)] == [0, 2]
    assert await Worker(loop).run_once() == 1


async def test_a_session_that_the_end_of_a_detached_workflow_wakes_is_driven(place: Place) -> None:
    loop = place.loop("thanks")
    session = await loop.new_session()
    await place.store.post(session, UserSaid("[workflow 'x' ended: completed]"), key="workflow:0123")
    assert await TimerRunner(loop).scan_once() == 0
    assert [message["role"] for message in await loop.get_messages(session)] == ["user", "assistant"]


async def test_a_note_whose_firing_process_died_is_found_by_the_next_runner(stand: Any) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=1, note="wake up")
    await stand.time.advance(1)
    assert await stand.fire_due() == 1  # and died before it drove the session
    assert await TimerRunner(stand.loop()).scan_once() == 0
    assert heard(await loop.get_messages(session)) != []


async def test_a_send_that_fails_under_a_runner_is_tried_again_later_and_the_note_enters_once(stand: Any) -> None:
    loop = stand.loop(ScriptedLLM([fail(ConnectionError("away")), say("back")]))
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=1, note="wake up")
    runner = TimerRunner(loop)
    await stand.time.advance(1)
    assert await runner.scan_once() == 1
    assert str(await loop.get_messages(session)).count("<timer id=") == 1
    result = await loop.resume(session)
    assert result.final_text == "back"
    assert str(await loop.get_messages(session)).count("<timer id=") == 1


async def test_a_started_runner_scans_until_it_is_stopped_and_can_be_started_again(stand: Any) -> None:
    loop, told = stand.loop(), asyncio.Queue[str]()
    loop.event_bus.subscribe("timer_fired", lambda event: told.put_nowait(event.data.note))
    session = await loop.new_session()
    runner = TimerRunner(loop, scan_interval_s=1.0)
    for note in ("first", "second"):
        await loop.schedule_timer(session, delay_s=5, note=note)
        await stand.time.advance(5)
        assert told.empty()
        runner.start()
        runner.start()
        async with asyncio.timeout(60):
            assert await told.get() == note
            await runner.stop()
    await runner.stop()  # nothing runs
    assert told.empty()


async def test_a_runner_that_begins_anew_while_it_stops_lets_the_sends_in_hand_end_and_goes_on(stand: Any) -> None:
    llm, asked, answer = slow()
    loop = stand.loop(llm)
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=0, note="first")
    runner = TimerRunner(loop, scan_interval_s=1.0)
    runner.start()
    async with asyncio.timeout(60):
        await asked.wait()
        stopped = runner.stop()
        runner.start()
        answer.set()
        await stopped
        assert runner.running
        assert [row["content"] for row in await loop.get_messages(session)][-1:] == ["heard"]
        await runner.stop()


async def test_whoever_stops_a_runner_again_waits_as_well_for_the_sends_in_hand(stand: Any) -> None:
    llm, asked, answer = slow()
    loop = stand.loop(llm)
    await loop.schedule_timer(await loop.new_session(), delay_s=0, note="first")
    async with asyncio.timeout(60):
        async with TimerRunner(loop, scan_interval_s=1.0) as runner:
            await asked.wait()
            asyncio.get_running_loop().call_soon(answer.set)
            stopped = runner.stop()
        assert stopped.done()


async def test_a_runner_ends_with_its_loop(stand: Any) -> None:
    loop = stand.loop()
    runner = TimerRunner(loop, scan_interval_s=1.0)
    runner.start()
    await stand.time.advance(1)
    await loop.aclose()
    async with asyncio.timeout(60):
        while runner.running:
            await stand.time.advance(1)
    await runner.stop()


@pytest.mark.parametrize("wrong", [{"scan_interval_s": 0}, {"max_concurrency": 0}])
def test_a_runner_without_an_interval_or_a_place_is_refused(stand: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        TimerRunner(stand.loop(), **wrong)


async def test_a_clock_that_jumps_brings_neither_a_storm_nor_an_early_firing(stand: Any) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=60, note="tick", interval_s=60)
    await loop.schedule_timer(session, delay_s=7200, note="later")
    runner = TimerRunner(loop)
    stand.time.jump(3600)
    assert await runner.scan_once() == 1, "sixty periods, one firing"
    stand.time.jump(-3600)
    assert [await runner.scan_once() for _ in range(3)] == [0, 0, 0]
    stand.time.jump(-3600)
    assert await runner.scan_once() == 0
    stand.time.jump(7200 + 60)
    assert await runner.scan_once() == 1
    assert "later" not in str(await loop.get_messages(session))


# acceptance: 109 (every engine)
async def test_several_runners_on_one_database_wake_each_session_once(place: Place) -> None:
    loops = [place.loop(llm=FunctionLLM(lambda request: say("awake"))) for _ in range(3)]
    sessions = [await loops[0].new_session() for _ in range(6)]
    for session in sessions:
        await loops[0].schedule_timer(session, delay_s=0, note="wake up")
        await loops[0].schedule_timer(session, delay_s=0, note="wake up too", interval_s=3600)
    runners = [TimerRunner(loop) for loop in loops]
    fired = 0
    for _ in range(3):
        fired += sum(await asyncio.gather(*(runner.scan_once() for runner in runners)))
    assert fired == 12
    for session in sessions:
        assert str(await loops[0].get_messages(session)).count("<timer id=") == 2


async def test_a_runner_looks_as_often_as_it_was_told(stand: Any) -> None:
    loop = stand.loop()
    looks: list[float] = []
    fire = stand.fire_timers

    async def noted(**which: Any) -> Any:
        looks.append(stand.time.monotonic())
        return await fire(**which)

    stand.fire_timers = noted
    async with TimerRunner(loop, scan_interval_s=0.1):
        await stand.time.advance(3)
    assert len(looks) >= 30
    assert max(after - before for before, after in itertools.pairwise(looks)) <= 0.1
