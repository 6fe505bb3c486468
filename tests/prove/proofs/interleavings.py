"""Every pair of the kernel's deeds on one session, in every order of their reads and batches, and side by side.

Each deed runs on a connection of its own and stops before each verb; a scheduler lets them go on in every order there
is, one at a time, and at each point where both wait also both at once (then the server decides who is first).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, SendEnded, SendRested, StopRequested, ToolReturned, UserSaid
from power_loop.contracts.store import Append, Conflict, Database, Head, Row
from power_loop.store.sql_store import SessionStore
from power_loop.testing.crash import over
from power_loop.testing.hand import Hand
from power_loop.testing.invariants import check_invariants
from proofs.stores import ready
from proofs.suite import Suite

FAR_OFF = 1 << 60
LONG_AGO_MS = 60_000
Case = tuple[str, str, str]
"""How the session stands, and the two deeds."""


# --- turns --------------------------------------------------------------------------------------------


class Turns:
    """Lets the players go on one verb at a time, as the choices say; beyond them always the first option."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = list(choices)
        self.options: list[int] = []
        """How many there were at each point."""
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._busy = 0
        self._changed = asyncio.Event()

    async def mine(self, player: str) -> None:
        """Called by a player before a verb."""
        self._waiting[player] = asyncio.get_running_loop().create_future()
        self._busy -= 1
        self._changed.set()
        await self._waiting[player]

    async def play(self, *players: Awaitable[Any]) -> None:
        """Run them all to their end."""
        tasks = [asyncio.ensure_future(self._one(player)) for player in players]
        self._busy = len(tasks)
        while await self._all_stand_still():
            together = [[name] for name in self._waiting] + ([list(self._waiting)] if len(self._waiting) > 1 else [])
            at = len(self.options)
            self.options.append(len(together))
            # Who is first of two at once is the server's to say, so a repetition may have fewer options than there were.
            for name in together[min(self._choices[at], len(together) - 1) if at < len(self._choices) else 0]:
                self._busy += 1
                self._waiting.pop(name).set_result(None)
        await asyncio.gather(*tasks)

    async def _one(self, player: Awaitable[Any]) -> None:
        try:
            await player
        finally:
            self._busy -= 1
            self._changed.set()

    async def _all_stand_still(self) -> bool:
        """Wait for it; False when nobody waits any more."""
        while self._busy:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._waiting)


class Stepping:
    """A database whose every verb waits for its turn."""

    def __init__(self, inner: Database, turns: Turns, player: str) -> None:
        self._inner, self._turns, self._player = inner, turns, player

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        await self._turns.mine(self._player)
        return await self._inner.read(sql, params)

    async def write(self, batch: Any) -> None:
        await self._turns.mine(self._player)
        await self._inner.write(batch)

    async def close(self) -> None:
        return


def next_choices(taken: Sequence[int], options: Sequence[int]) -> list[int] | None:
    """The next order to try after one with these options, or None when all were."""
    choices = [*taken[: len(options)], *[0] * (len(options) - len(taken))]
    while choices and choices[-1] + 1 >= options[len(choices) - 1]:
        choices.pop()
    if not choices:
        return None
    choices[-1] += 1
    return choices


# --- the session and the deeds --------------------------------------------------------------------


class Scene:
    """One session, whose holder ``a`` may be in the middle of a send; and what became of each deed."""

    def __init__(self, store: SessionStore, session: str) -> None:
        self.store, self.session = store, session
        self.records = self.takes = self.wakes = 0
        """By batches that were confirmed."""
        self.posted: list[tuple[str, str]] = []
        self.queued_for: list[str] = []
        """Keys of what the running holder was said to hear."""
        self.deleted = self.ended = False
        self.wrong: list[str] = []

    async def quietly(self, deed: Awaitable[None]) -> None:
        """What a deed may expect: that another was faster."""
        try:
            await deed
        except (Conflict, SessionNotFoundError):
            return
        except Exception as error:
            self.wrong.append(f"unexpected {error!r}")

    async def stand(self, how: str) -> None:
        self.hand = await Hand.of(self.store, self.session, "a")
        if how == "free":
            return
        await self.hand.take(UserSaid("go"), until=FAR_OFF)
        await self.hand.append(ModelReplied("", (ToolCall("c", "act", "{}"),)), ToolReturned("c", "ok"))
        if how == "expired":
            over_since = self.store.clock.now_ms() - LONG_AGO_MS
            await self.hand._write(self.hand._batch((), self.hand.head.epoch, "a", over_since), ())
        if how == "waiting":
            await self.store.post(self.session, UserSaid("early"), key="early")

    def through(self, database: Database) -> SessionStore:
        return Counting(over(self.store, database), self)


class Counting(SessionStore):
    """A store that adds up what it confirmed."""

    def __init__(self, store: SessionStore, scene: Scene) -> None:
        super().__init__(store.database, store.dialect, store.table_prefix, clock=store.clock, ids=store.ids)
        self._scene = scene

    async def append(self, batch: Append) -> None:
        await super().append(batch)
        self._scene.records += len(batch.rows)
        self._scene.takes += batch.next.epoch - batch.seen.epoch

    async def post(self, session_id: str, record: Any, *, key: str, running: Head | None = None, **how: Any) -> bool:
        new = await super().post(session_id, record, key=key, running=running, **how)
        self._scene.wakes += new
        self._scene.posted.append((session_id, key))
        if running is not None:
            self._scene.queued_for.append(key)
        return new

    async def queue_up(self, session_id: str, holder: str) -> int:
        ticket = await super().queue_up(session_id, holder)
        self._scene.wakes += 1
        return ticket


async def take(scene: Scene, store: SessionStore) -> None:
    """Take the lease if it is free or over, with a new word."""
    hand = await Hand.of(store, scene.session, "b")
    if hand.head.holder is None:
        await hand.take(UserSaid("mine"))
    elif not _runs(hand.head, store):
        await hand.take(SendRested("interrupted"), bound=store.clock.now_ms() + 1)


async def seize(scene: Scene, store: SessionStore) -> None:
    """Take a lease that is over without a word, as a resume does."""
    hand = await Hand.of(store, scene.session, "d")
    if hand.head.holder is not None and not _runs(hand.head, store):
        await hand.take(bound=store.clock.now_ms() + 1)


async def append(scene: Scene, store: SessionStore) -> None:
    """The holder writes a reply."""
    await _hand(scene, store).append(ModelReplied("more", ()))


async def end(scene: Scene, store: SessionStore) -> None:
    """The holder ends its send, after it heard whatever came in between."""
    hand = _hand(scene, store)
    while True:
        try:
            await hand.release(ModelReplied("done"), SendEnded("completed"))
            scene.ended = True
            return
        except Conflict:
            await _hear(hand, scene)


async def hear(scene: Scene, store: SessionStore) -> None:
    """The holder hears what waits."""
    await _hear(_hand(scene, store), scene)


async def renew(scene: Scene, store: SessionStore) -> None:
    await store.renew([(scene.session, scene.hand.head.epoch)], FAR_OFF)


async def post(scene: Scene, store: SessionStore) -> None:
    await store.post(scene.session, UserSaid("word"), key="word")


async def post_to_running(scene: Scene, store: SessionStore) -> None:
    """A follow-up: left only while the holder that was seen still holds."""
    head = await store.look(scene.session)
    if _runs(head, store):
        await store.post(scene.session, UserSaid("follow-up"), key="follow-up", running=head)


async def cancel(scene: Scene, store: SessionStore) -> None:
    head = await store.look(scene.session)
    if _runs(head, store):
        await store.post(scene.session, StopRequested("cancelled"), key="cancel", mode="steer", running=head)


async def queue_up(scene: Scene, store: SessionStore) -> None:
    """Somebody stands in line, gives a sign of life, and leaves."""
    ticket = await store.queue_up(scene.session, "c")
    await store.still_waiting(ticket)
    await store.leave_line(ticket)


async def delete(scene: Scene, store: SessionStore) -> None:
    await store.close_session_tree(scene.session)
    scene.deleted = True


def _runs(head: Head, store: SessionStore) -> bool:
    return head.held_at(store.clock.now_ms())


def _hand(scene: Scene, store: SessionStore) -> Hand:
    """The holder's hand, on this connection."""
    hand = Hand(store, scene.hand.head, "a")
    hand.state = scene.hand.state
    return hand


async def _hear(hand: Hand, scene: Scene) -> None:
    epoch = hand.head.epoch
    hand.head = await hand.store.look(scene.session)
    items = await hand.store.inbox(scene.session)
    if (hand.head.epoch, hand.head.holder) != (epoch, "a"):
        raise Conflict("it is no longer held")
    if items:
        await hand.append(*(item.record for item in items), heard=[item.item_id for item in items])


Deed = Callable[[Scene, SessionStore], Awaitable[None]]
DEEDS: dict[str, Deed] = {
    deed.__name__: deed for deed in (take, seize, append, end, hear, renew, post, post_to_running, cancel, queue_up, delete)
}
OF_THE_HOLDER = {"append", "end", "hear", "renew"}
STANDS = ("free", "running", "waiting", "expired")


# --- the suite ------------------------------------------------------------------------------------


class Interleavings(Suite):
    """On any engine; a case is a pair, in all its orders."""

    def __init__(self, engine: str) -> None:
        self.name = f"interleavings ({engine})"
        self._engine = engine
        self.orders = 0
        """How many were run."""

    def open(self, stack: ExitStack) -> None:
        it = stack.enter_context(ready(self._engine))
        self._store, self._runner = it.store, it.runner

    def done(self) -> str:
        return f"{self.orders} orders"

    def cases(self) -> list[Case]:
        names = list(DEEDS)
        pairs = [(one, two) for at, one in enumerate(names) for two in names[at:]]
        return [(how, one, two) for how in STANDS for one, two in pairs if how != "free" or not {one, two} & OF_THE_HOLDER]

    def run(self, case: Case) -> list[str]:
        choices: list[int] | None = []
        while choices is not None:
            options, wrong = self._runner.run(self._order(case, choices))
            self.orders += 1
            if wrong:
                return [f"order {choices}: {text}" for text in wrong]
            choices = next_choices(choices, options)
        return []

    async def _order(self, case: Case, choices: Sequence[int]) -> tuple[list[int], list[str]]:
        """(the options there were, what was violated)"""
        how, *deeds = case
        session = await self._store.create_session()
        scene, turns = Scene(self._store, session), Turns(choices)
        await scene.stand(how)
        before = await self._store.look(session)
        players = [
            scene.quietly(DEEDS[deed](scene, scene.through(Stepping(self._store.database, turns, f"{place} {deed}"))))
            for place, deed in enumerate(deeds)
        ]
        async with asyncio.timeout(60):
            await turns.play(*players)
        return turns.options, await _wrong(scene, before)


async def _wrong(scene: Scene, before: Head) -> list[str]:
    store, session = scene.store, scene.session
    if scene.deleted:
        left = await store.database.read(
            f"SELECT seq FROM {store.table_prefix}records WHERE session_id = ? UNION ALL"
            f" SELECT item_id FROM {store.table_prefix}inbox WHERE session_id = ?", (session, session),
        )  # fmt: skip
        return [*scene.wrong, *([f"I20 rows {left} of a deleted session"] if left else [])]
    head = await store.look(session)
    wrong = scene.wrong + await check_invariants(store, sessions=[session], acknowledged=scene.posted)
    for what, is_now, was, added in (
        ("head", head.head, before.head, scene.records),
        ("epoch", head.epoch, before.epoch, scene.takes),
        ("wake_no", head.wake_no, before.wake_no, scene.wakes),
    ):
        if is_now != was + added:
            wrong.append(f"{what} went from {was} to {is_now}, and {added} were confirmed")
    waiting = [item.key for item in await store.inbox(session)]
    if scene.ended and (unheard := set(scene.queued_for) & set(waiting)):
        wrong.append(f"I19 the holder was to hear {unheard}, and ended")
    return wrong
