"""The hook ``timer.fire``: asked where the note comes out of the inbox, whatever that session's driver is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from power_loop import HookDirective, StatefulAgentLoop, TimerFireCtx, TimerRow, TimerRunner
from power_loop.testing import Died, DyingStore, FunctionLLM, say


class Scene:
    """A session with one due timer, a handler at the hook, and what was heard of it."""

    def __init__(self, stand: Any, loop: StatefulAgentLoop, session: str) -> None:
        self.stand, self.loop, self.session = stand, loop, session
        self.runner = TimerRunner(loop)
        self.outcomes: list[str] = []
        loop.event_bus.subscribe("timer_fired", lambda event: self.outcomes.append(event.data.outcome))

    def on_fire(self, handler: Callable[[TimerFireCtx], Any]) -> None:
        self.loop.hooks.register("timer.fire", handler)

    async def timer(self, **more: Any) -> TimerRow:
        return await self.loop.schedule_timer(self.session, **{"delay_s": 1, "note": "wake up", **more})

    async def later(self, seconds: float = 1) -> None:
        await self.stand.time.advance(seconds)
        await self.runner.scan_once()

    async def words(self) -> list[str]:
        return [message["content"] for message in await self.loop.get_messages(self.session) if message["role"] == "user"]

    async def now(self, timer: TimerRow) -> TimerRow:
        row = await self.stand.get_timer(self.session, timer.timer_id)
        assert row is not None
        return row


@pytest.fixture
async def scene(stand: Any) -> Scene:
    loop = stand.loop()
    return Scene(stand, loop, await loop.new_session())


# acceptance: 48 (timer.fire)
async def test_a_handler_sees_the_firing_and_may_rewrite_what_the_model_is_told(scene: Scene) -> None:
    seen: list[Any] = []

    def rewrite(ctx: TimerFireCtx) -> None:
        seen.append((ctx.timer_id, ctx.note, ctx.due_at, ctx.message, ctx.session_id))
        ctx.message = ctx.message + " It is raining."

    scene.on_fire(rewrite)
    timer = await scene.timer()
    await scene.later(7)
    text = f"<timer id={timer.timer_id}>wake up</timer>"
    assert seen == [(str(timer.timer_id), "wake up", timer.due_at, text, scene.session)]
    assert await scene.words() == [f"<follow_up>\n{text} It is raining.\n</follow_up>"]
    assert scene.outcomes == ["delivered"]


# acceptance: 48 (timer.fire)
async def test_skip_drops_this_firing_and_keeps_the_timer(scene: Scene) -> None:
    scene.on_fire(lambda ctx: HookDirective.SKIP)
    timer = await scene.timer(interval_s=10)
    await scene.later()
    assert (await scene.words(), scene.outcomes, await scene.stand.inbox(scene.session)) == ([], ["skipped"], [])
    assert ((await scene.now(timer)).status, (await scene.now(timer)).due_at) == ("armed", timer.due_at + 10_000)
    await scene.later(10)
    assert scene.outcomes == ["skipped", "skipped"]


# acceptance: 48 (timer.fire)
@pytest.mark.parametrize("interval_s", [None, 10])
@pytest.mark.parametrize("directive", [HookDirective.BREAK, HookDirective.CANCEL])
async def test_break_drops_the_note_and_cancels_the_timer(scene: Scene, interval_s: float | None, directive: str) -> None:
    scene.on_fire(lambda ctx: directive)
    timer = await scene.timer(interval_s=interval_s)
    await scene.later()
    await scene.later(100)
    assert (await scene.words(), scene.outcomes) == ([], ["cancelled"])
    assert (await scene.now(timer)).status == "cancelled"


# acceptance: 48 (timer.fire)
async def test_postponed_it_fires_again_after_that_time_and_recurs_on_its_old_grid(scene: Scene) -> None:
    calls: list[int] = []

    def once(ctx: TimerFireCtx) -> None:
        calls.append(1)
        ctx.postpone_s = 4 if len(calls) == 1 else 0

    scene.on_fire(once)
    timer = await scene.timer(interval_s=60)
    await scene.later()
    put_off = await scene.now(timer)
    assert (put_off.status, put_off.due_at) == ("armed", scene.stand.time.now_ms() + 4000)
    assert (await scene.words(), scene.outcomes) == ([], ["postponed"])
    await scene.later(3)
    assert scene.outcomes == ["postponed"]
    await scene.later(1)
    assert (len(await scene.words()), scene.outcomes) == (1, ["postponed", "delivered"])
    assert (await scene.now(timer)).due_at == timer.due_at + 60_000


async def test_a_one_shot_timer_can_be_postponed_too(scene: Scene) -> None:
    scene.on_fire(lambda ctx: setattr(ctx, "postpone_s", 5.0 if not scene.outcomes else 0.0))
    timer = await scene.timer()
    await scene.later()
    assert (await scene.now(timer)).status == "armed"
    await scene.later(5)
    assert (scene.outcomes, (await scene.now(timer)).status) == (["postponed", "delivered"], "fired")


async def test_a_veto_wins_over_a_postponement(scene: Scene) -> None:
    scene.on_fire(lambda ctx: setattr(ctx, "postpone_s", 5.0))
    scene.on_fire(lambda ctx: HookDirective.SKIP)
    timer = await scene.timer()
    await scene.later()
    assert (scene.outcomes, (await scene.now(timer)).status) == (["skipped"], "fired")


async def test_a_timer_that_was_cancelled_meanwhile_is_not_armed_by_a_postponement(scene: Scene) -> None:
    async def cancel_first(ctx: TimerFireCtx) -> None:
        await scene.loop.cancel_timer(scene.session, int(ctx.timer_id))
        ctx.postpone_s = 5

    scene.on_fire(cancel_first)
    timer = await scene.timer(interval_s=60)
    await scene.later()
    assert ((await scene.now(timer)).status, await scene.words()) == ("cancelled", [])


async def test_a_message_that_is_none_is_refused_and_the_note_stays(scene: Scene) -> None:
    given: list[Any] = [{"no": "message"}]
    scene.on_fire(lambda ctx: setattr(ctx, "message", given.pop() if given else "at last"))
    await scene.timer()
    await scene.later()
    assert (scene.outcomes, await scene.words()) == (["error"], [])
    await scene.loop.send("hello", scene.session)
    assert (scene.outcomes, "at last" in str(await scene.words())) == (["error", "delivered"], True)


async def test_a_message_that_is_none_matters_only_where_it_would_be_heard(scene: Scene) -> None:
    def drops(ctx: TimerFireCtx) -> HookDirective:
        ctx.message = None  # type: ignore[assignment]
        return HookDirective.SKIP

    scene.on_fire(drops)
    await scene.timer()
    await scene.later()
    assert (scene.outcomes, await scene.words()) == (["skipped"], [])


async def test_words_that_came_with_a_dropped_note_are_heard(scene: Scene) -> None:
    scene.on_fire(lambda ctx: HookDirective.SKIP)
    await scene.timer()
    await scene.loop.enqueue("and you?", scene.session)
    await scene.later()
    assert await scene.words() == ["<follow_up>\nand you?\n</follow_up>"]


async def test_the_hook_is_asked_in_a_plain_send_as_well(scene: Scene) -> None:
    scene.on_fire(lambda ctx: setattr(ctx, "message", "rewritten"))
    await scene.timer()
    await scene.stand.time.advance(1)
    await scene.stand.fire_due()
    await scene.loop.send("hello", scene.session)
    assert "rewritten" in str(await scene.words())
    assert "wake up" not in str(await scene.words())


async def test_the_hook_is_asked_for_a_note_that_enters_a_send_under_way(stand: Any) -> None:
    async def fires_meanwhile(request: Any) -> Any:
        if "second" not in str(request.messages):
            await stand.time.advance(1)
            await stand.fire_due()
        return say(f"heard {request.messages[-1]['content'].count('second')}")

    loop = stand.loop(FunctionLLM(fires_meanwhile))
    loop.hooks.register("timer.fire", lambda ctx: setattr(ctx, "message", "second"))
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=1, note="wake up")
    result = await loop.send("first", session)
    assert (result.final_text, result.rounds) == ("heard 1", 2)


async def test_a_note_that_is_dropped_while_a_send_ends_does_not_prolong_it(stand: Any) -> None:
    async def fires_meanwhile(request: Any) -> Any:
        await stand.time.advance(1)
        await stand.fire_due()
        return say("done")

    loop = stand.loop(FunctionLLM(fires_meanwhile))
    loop.hooks.register("timer.fire", lambda ctx: HookDirective.SKIP)
    session = await loop.new_session()
    await loop.schedule_timer(session, delay_s=1, note="wake up")
    result = await loop.send("first", session)
    assert (result.status, result.final_text, result.rounds) == ("completed", "done", 1)
    assert await stand.inbox(session) == []


async def test_what_a_handler_raises_passes_and_the_note_stays(scene: Scene) -> None:
    def broken(ctx: TimerFireCtx) -> None:
        raise RuntimeError("no")

    scene.on_fire(broken)
    timer = await scene.timer()
    await scene.stand.time.advance(1)
    await scene.stand.fire_due()
    with pytest.raises(RuntimeError, match="no"):
        await scene.loop.send("hello", scene.session)
    assert scene.outcomes == ["error"]
    assert await scene.stand.notes(scene.session) == [f"<timer id={timer.timer_id}>wake up</timer>"]


@pytest.mark.parametrize("wanted", ["skip", "break", "postpone", "enter"])
async def test_killed_at_any_commit_a_decision_about_a_note_counts_once(stand: Any, wanted: str) -> None:
    """Whoever dies: either nothing was decided and the note waits, or note and timer both moved."""

    def decides(ctx: TimerFireCtx) -> Any:
        if wanted == "postpone":
            ctx.postpone_s = 50
        return {"skip": HookDirective.SKIP, "break": HookDirective.BREAK}.get(wanted)

    for at in range(1, 12):
        died = False
        loop = stand.loop()
        session = await loop.new_session()
        timer = await loop.schedule_timer(session, delay_s=0, note="wake up", interval_s=1000)
        await stand.fire_due()
        dying = StatefulAgentLoop(llm=FunctionLLM(lambda request: say("ok")), store=DyingStore(stand, at), name="agent")
        dying.hooks.register("timer.fire", decides)
        try:
            await TimerRunner(dying).scan_once()
        except Died:
            died = True
        row = await stand.get_timer(session, timer.timer_id)
        waits, entered = bool(await stand.inbox(session)), "<timer id=" in str(await loop.get_messages(session))
        put_off = row.due_at < timer.due_at + 1_000_000
        moved = {"break": row.status == "cancelled", "postpone": put_off}.get(wanted, not waits)
        assert waits != moved, f"{wanted}, death {at}"
        assert entered == (not waits and wanted == "enter"), f"{wanted}, death {at}"
        if not died and at > 6:
            break
