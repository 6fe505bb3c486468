"""One round's tool calls: side by side where they may, results in call order for the model, each call answered once.

Calls are prepared (arguments, hooks, the started record), then run, group by group; a tool that is not parallel
is a group of its own. Results are written as they land. What a stop leaves unanswered, the kernel answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from power_loop.contracts.effects import RunTools
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import Content, ToolCall
from power_loop.contracts.records import Record, ToolParked, ToolReturned, ToolStarted
from power_loop.runtime.asking import STOPPING, answer_of, ask, stopped_by
from power_loop.runtime.cancel import Cut
from power_loop.runtime.one_call import Prepared, cancelled_itself, is_stopping, prepare, run_one, runs_side_by_side, still_running
from power_loop.runtime.rounds import begin_round, used_todo
from power_loop.runtime.send import Send

T = TypeVar("T")


class Running:
    """The calls of a group that run now, each in a task of its own; whoever waits for the next to land is woken by it."""

    def __init__(self) -> None:
        self.calls: dict[asyncio.Task[Record], Prepared] = {}
        self._waiting: asyncio.Future[None] | None = None

    def begin(self, send: Send, prepared: Prepared) -> None:
        self.calls[asyncio.create_task(self._land(send, prepared))] = prepared

    async def _land(self, send: Send, prepared: Prepared) -> Record:
        try:
            return await run_one(send, prepared)
        finally:
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    async def landed(self) -> list[asyncio.Task[Record]]:
        """Those that are done, in the order of their calls; one at least."""
        if not any(task.done() for task in self.calls):
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return [task for task in self.calls if task.done()]


async def run_tools(send: Send, effect: RunTools) -> None:
    """Run what may run. Every call that began has its result, or is parked, when this returns; unless the send stops."""
    if not send.round_open:
        send.teller.round_index = max(0, send.ahead.rounds - 1)
        begin_round(send)
    if await _round_vetoed(send, effect.calls):
        return
    places = {call.id: at for at, call in enumerate(send.ahead.asked)}
    for group in groups(effect.calls, lambda call: runs_side_by_side(send, call.name)):
        ready = [prepared for call in group if (prepared := await prepare(send, call, places[call.id])) is not None]
        # A hook may have put a tool that runs alone in the place of one that need not.
        for together in groups(ready, lambda prepared: runs_side_by_side(send, prepared.call.name)):
            if not is_stopping(send):
                await _run_group(send, together)
        if is_stopping(send):
            break
    if "tools.batch.after" in send.ports.hooks.standing:
        await send.flush()
        await ask(send, "tools.batch.after", messages=send.window.messages, used_todo=used_todo(send))


def groups(calls: Sequence[T], side_by_side: Callable[[T], bool]) -> Iterator[list[T]]:
    """Neighbours that may run side by side; a call that may not stands alone, a barrier to both sides."""
    group: list[T] = []
    for call in calls:
        if side_by_side(call):
            group.append(call)
            continue
        if group:
            yield group
        yield [call]
        group = []
    if group:
        yield group


async def _round_vetoed(send: Send, calls: Sequence[ToolCall]) -> bool:
    """A handler answered every call of the round in the tools' place."""
    for point in ("round.decide", "tools.batch.before"):
        if point not in send.ports.hooks.standing:
            continue
        await send.flush()
        asked = [call.to_message() for call in calls]
        more = {"assistant_text": send.ahead.text} if point == "round.decide" else {}
        context = await ask(send, point, messages=send.window.messages, tool_calls=asked, output=None, **more)
        if context.directive == HookDirective.SKIP or context.directive in STOPPING:
            await answer_all(send, calls, answer_of(context, point, f"[skipped by a hook at {point}]"))
            if stop := stopped_by(point, context):
                send.note(stop)
            return True
    return False


async def answer_all(send: Send, calls: Sequence[ToolCall], told: Content) -> None:
    """Answer ``calls`` without running them."""
    for call in calls:
        await send.say(ToolReturned(call.id, told, "skipped", call.name, ran=False))


async def _run_group(send: Send, ready: Sequence[Prepared]) -> None:
    """Run ``ready`` side by side, as many at once as there are places."""
    waiting, running = deque(ready), Running()
    try:
        while waiting or running.calls:
            await _fill_places(send, waiting, running)
            if running.calls:
                await _collect(send, running)
    except Cut:
        await _wind_down(send, running)
    finally:
        await _abandon(send, running)


async def _fill_places(send: Send, waiting: deque[Prepared], running: Running) -> None:
    """Begin calls while there is room, what happened so far written first. Once the send stops, no call begins."""
    if is_stopping(send):
        waiting.clear()
    begun = [waiting.popleft() for _ in range(min(len(waiting), send.terms.settings.concurrency - len(running.calls)))]
    for prepared in begun:
        if prepared.leaves_a_trace and prepared.call.id not in send.ahead.started:
            send.note(ToolStarted(prepared.call.id, *prepared.rewritten))
    if begun or running.calls:
        await send.flush()
    for prepared in begun:
        running.begin(send, prepared)


async def _collect(send: Send, running: Running) -> None:
    """Note results as they land; those that land while a batch is written share the next one."""
    with send.scope:
        done = await running.landed()
    await _note_done(send, running, done)


async def _note_done(send: Send, running: Running, done: Sequence[asyncio.Task[Record]]) -> None:
    landed = [(task, running.calls.pop(task)) for task in done]
    broken = [error for task, _ in landed if not task.cancelled() and (error := task.exception()) is not None]
    for task, prepared in landed:
        if task.cancelled():
            if send.scope.stop is None:  # else the stop answers the call
                await _note_one(send, cancelled_itself(prepared), prepared)
        elif task.exception() is None:
            await _note_one(send, task.result(), prepared)
    if broken:  # a handler of a hook raised: what its neighbours found out is noted all the same
        raise broken[0]


async def _note_one(send: Send, record: Record, prepared: Prepared) -> None:
    if prepared.run.posts and isinstance(record, (ToolReturned, ToolParked)):
        send.posts = {**send.posts, record.call_id: prepared.run.posts}
    if isinstance(record, ToolReturned):
        await send.say(record)
        send.closes += prepared.run.closes
    else:
        send.note(record)
    if prepared.stop is not None:
        send.note(prepared.stop)


async def _wind_down(send: Send, running: Running) -> None:
    """The send was stopped: async handlers are cancelled, synchronous ones get a moment to finish."""
    for task, prepared in running.calls.items():
        if prepared.is_async:
            task.cancel()
    await asyncio.wait(running.calls, timeout=send.terms.settings.cancel_grace_s)
    late = {task: prepared for task, prepared in running.calls.items() if not task.done()}
    finished = [task for task in running.calls if task not in late and not task.cancelled() and task.exception() is None]
    for task, prepared in late.items():
        if prepared.is_async:
            _leave(send, running, task)
    await _note_done(send, running, finished)
    for prepared in late.values():
        send.note(still_running(prepared))


async def _abandon(send: Send, running: Running) -> None:
    """Nothing of ours runs on when the round is left, but for handlers that will not be cancelled."""
    for task in running.calls:
        task.cancel()
    try:
        if running.calls:
            await asyncio.wait(running.calls, timeout=send.terms.settings.cancel_grace_s)
    finally:
        for task in list(running.calls):
            if not task.done():
                _leave(send, running, task)
            elif not task.cancelled():
                task.exception()  # it was looked at, or asyncio would call it lost


def _leave(send: Send, running: Running, task: asyncio.Task[Record]) -> None:
    """Its handler swallowed the cancel: it runs on by itself, and what it gives in the end is evidence."""
    running.calls.pop(task).is_left = True
    send.ports.left.add(task)
    task.add_done_callback(send.ports.left.discard)
