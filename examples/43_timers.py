"""Timers: a session is woken later, once and again; a handler steps in; nothing is lost when the process ends."""

import asyncio

from power_loop import HookDirective, StatefulAgentLoop, TimerRunner
from power_loop.testing import FunctionLLM, say

DSN = "timers.db"


def make_loop() -> StatefulAgentLoop:
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: say("I am awake.")), dsn=DSN, name="cook")

    def step_in(ctx):
        if "radio" in ctx.note:
            return HookDirective.SKIP
        if "oven" in ctx.note:
            ctx.message += " It is hot."
        return None

    loop.hooks.register("timer.fire", step_in)
    loop.event_bus.subscribe("timer_fired", lambda event: print(f"{event.data.note!r} was {event.data.outcome}"))
    return loop


async def schedule() -> str:
    """One process says when."""
    async with make_loop() as loop:
        session = await loop.new_session()
        await loop.schedule_timer(session, delay_s=0, note="Look at the oven.")
        await loop.schedule_timer(session, delay_s=0, note="Turn the radio on.")
        await loop.schedule_timer(session, delay_s=0, interval_s=3600, note="Stretch.")
        return session


async def wake(session: str) -> None:
    """Another one looks; a service keeps `async with TimerRunner(loop):` around its life instead."""
    async with make_loop() as loop:
        runner = TimerRunner(loop)
        print(await runner.scan_once(), "timers fired, then", await runner.scan_once())
        for message in await loop.get_messages(session):
            print(f"{message['role']}: {message['content']}")
        print("still armed:", [timer.note for timer in await loop.list_timers(session)])


session = asyncio.run(schedule())
asyncio.run(wake(session))
