"""What a model is writing, shown to other processes: small state that is overwritten every 200 ms, never a record.

Only for loops that ask for it (``running.durable_stream``). What is lost of it is lost; the reply's record has all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from power_loop.contracts.clock import Clock
from power_loop.contracts.errors import PowerLoopError
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.soon import soon
from power_loop.contracts.watch import PassingText, WatchedLog
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.retell import place_of

SHOW_EVERY_S = 0.2

HEARD = ("stream_started", "stream_delta", "stream_think_delta", "stream_completed", "message_appended", "session_ended")


async def nap(clock: Clock, seconds: float, woken: asyncio.Event) -> None:
    """Sleep until ``woken``, ``seconds`` at most."""
    waiting = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(woken.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


class TextInHand:
    """One attempt's text so far, and the task that shows it."""

    def __init__(self) -> None:
        self.text: PassingText | None = None
        """None: there is nothing to show any more."""
        self.is_shown: bool = True
        self.over: asyncio.Event = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None

    def begin(self, text: PassingText) -> None:
        self.text, self.is_shown = text, False

    def add(self, thought: bool, text: str) -> None:
        if self.text is None:
            return
        pieces = self.text.pieces
        if pieces and pieces[-1][0] == thought:
            pieces = (*pieces[:-1], (thought, pieces[-1][1] + text))
        else:
            pieces = (*pieces, (thought, text))
        self.text, self.is_shown = self.text._replace(pieces=pieces), False

    def end(self) -> None:
        self.text = None
        self.over.set()

    def end_from_anywhere(self) -> None:
        """The same, from any thread."""
        soon(self.loop, self.end)


class TextShower:
    """Shows the text of every model call that this loop drives, while it is asked to."""

    def __init__(self, log: WatchedLog, bus: AgentEventBus, holder: str, drives: Callable[[str], bool]) -> None:
        self._log, self._bus, self._holder, self._drives = log, bus, holder, drives
        self._listens = False
        self._texts: dict[str, TextInHand] = {}

    def mind(self, wanted: bool) -> None:
        """Begin, or cease, to show what is written from now on."""
        if wanted == self._listens:
            return
        self._listens = wanted
        if not wanted:
            self._bus.unsubscribe(self._hear)
            return
        for type in HEARD:
            self._bus.subscribe(type, self._hear, inline=True)

    async def close(self) -> None:
        """Take away what is still shown."""
        self.mind(False)
        texts, here = list(self._texts.values()), asyncio.get_running_loop()
        for each in texts:
            each.end_from_anywhere()
        await asyncio.gather(*(each.task for each in texts if each.task is not None and each.loop is here), return_exceptions=True)

    def _hear(self, event: AgentEvent) -> None:
        session_id = event.session_id or ""
        in_hand = self._texts.get(session_id)
        match event.type:
            case "stream_started" if self._drives(session_id):
                self._begin(session_id, event)
            case "stream_delta" | "stream_think_delta" if in_hand is not None:
                in_hand.add(event.type == "stream_think_delta", event.delta)
            case "stream_completed" if in_hand is not None and event.payload.get("aborted"):
                in_hand.end()
            # Told once the record is there; until then its text is still passing.
            case "message_appended" | "session_ended" if in_hand is not None:
                in_hand.end()
            case _:
                return

    def _begin(self, session_id: str, event: AgentEvent) -> None:
        after, _ = place_of(event.cursor or 0)
        call_id = str(event.payload.get("call_id", ""))
        in_hand = self._texts.get(session_id)
        if in_hand is None or in_hand.over.is_set():
            self._texts[session_id] = in_hand = TextInHand()
            in_hand.task = asyncio.get_running_loop().create_task(self._show(session_id, in_hand))
        in_hand.begin(PassingText(self._holder, call_id, event.send_index or 0, event.round_index, after))

    async def _show(self, session_id: str, in_hand: TextInHand) -> None:
        """Overwrite what is shown as long as there is more of it, then take it away."""
        shows = False
        try:
            while not in_hand.over.is_set():
                await nap(self._log.clock, SHOW_EVERY_S, in_hand.over)
                if (text := in_hand.text) is not None and not in_hand.is_shown:
                    in_hand.is_shown = shows = True
                    await self._log.show_text(session_id, text)
            # Unless the next attempt shows its own by now.
            if shows and self._texts.get(session_id) is in_hand:
                await self._log.show_text(session_id, None)
        except PowerLoopError:
            return  # the database cannot be reached; the send will say so
        finally:
            if self._texts.get(session_id) is in_hand:
                del self._texts[session_id]
