"""Any history of verbs on the session store, held step by step against a model of plain Python.

Several hands take, append, release, hear, post, renew and stand in line, each with what it last saw; batches lose
their answer before or after the COMMIT while somebody else writes, and hands die in the middle. The model says of
each step whether it succeeds, and what the row is then; the store must agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from power_loop.contracts.codec import from_cells
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, Record, SendEnded, SendRested, ToolReturned, UserSaid
from power_loop.contracts.store import Append, Conflict, Head
from power_loop.kernel.state import IDLE, State, apply
from power_loop.store.sql_store import SessionStore
from power_loop.testing.crash import Died, DyingStore, UnsureDatabase, When, over
from power_loop.testing.hand import Hand
from power_loop.testing.invariants import check_invariants
from proofs.stores import ready
from proofs.suite import Suite

FAR_OFF = 1 << 60
A_MINUTE_MS = 60_000
HANDS = 3
STEPS = 40

DEEDS = ("look_again", "take", "take", "go_on", "go_on", "go_on", "let_go", "let_go", "post", "post", "renew", "line")
HOW = ("plain", "plain", "plain", "plain", "unsure before", "unsure after", "dies before", "dies after")


class Draw(NamedTuple):
    """What chance decides of one deed."""

    hand: int
    how: str
    rival: int
    """What somebody else does before a lost answer is resolved: nothing, post, take over."""
    calls: int
    yes: bool
    key: str


DRAW = st.builds(
    Draw, st.integers(0, HANDS - 1), st.sampled_from(HOW), st.integers(0, 2), st.integers(0, 2), st.booleans(), st.sampled_from("abcdef")
)


@dataclass
class Row:
    """What the store must hold of one session."""

    epoch: int
    head: int = 0
    holder: str | None = None
    lease_until: int = 0
    wake_no: int = 0
    kinds: list[str] = field(default_factory=list)
    state: State = IDLE
    inbox: dict[str, int | None] = field(default_factory=dict)
    """Key → seq at which it was heard."""
    send_keys: set[str] = field(default_factory=set)
    line: list[str] = field(default_factory=list)

    def writes(self, batch: Append) -> bool:
        """Write it if its guards hold; whether they did."""
        seen = batch.seen
        fits = (seen.epoch, seen.head, seen.wake_no) == (self.epoch, self.head, self.wake_no) and self.lease_until < batch.bound
        if not fits or batch.send_key in self.send_keys:
            return False
        new = batch.next
        self.head, self.epoch, self.holder, self.lease_until = new.head, new.epoch, new.holder, new.lease_until
        for row in batch.rows:
            record = from_cells(row.cells)
            self.kinds.append(row.cells.kind)
            self.state = apply(self.state, record)
        waiting = [key for key, heard in self.inbox.items() if heard is None]
        self.inbox.update(dict.fromkeys(waiting[: len(batch.heard)], new.head))
        if batch.send_key is not None:
            self.send_keys.add(batch.send_key)
        return True

    def posts(self, key: str, running: Head | None) -> bool | None:
        """True: it is new; False: the key was taken; None: its holder is gone."""
        if running is not None and (self.epoch != running.epoch or self.holder is None):
            return None
        if key in self.inbox:
            return None if running is not None else False
        self.inbox[key] = None
        self.wake_no += 1
        return True


class StoreMachine(RuleBasedStateMachine):
    """One example. ``store`` and ``runner`` are set by `Histories`; each example has sessions of its own."""

    store: SessionStore
    runner: asyncio.Runner

    def do(self, work: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await work

        return self.runner.run(waited())

    @initialize()
    def begin(self) -> None:
        self.session = self.do(self.store.create_session())
        self.model = Row(self.do(self.store.look(self.session)).epoch)
        self.hands = [self.do(Hand.of(self.store, self.session, f"h{n}")) for n in range(HANDS)]
        self.marks = self.calls = 0
        self.acknowledged: list[tuple[str, str]] = []

    # One rule with weights: of many rules each example would leave most out.
    @rule(deed=st.sampled_from(DEEDS), draw=DRAW)
    def act(self, deed: str, draw: Draw) -> None:
        getattr(self, deed)(draw)

    # --- what hands do ---------------------------------------------------------------------------------

    def look_again(self, draw: Draw) -> None:
        self.hands[draw.hand] = self.do(Hand.of(self.store, self.session, f"h{draw.hand}"))
        self.hands[draw.hand].state = self.model.state

    def take(self, draw: Draw) -> None:
        hand = self.hands[draw.hand]
        records, heard = self.next_records(hand, draw, hears=draw.yes)
        batch = hand.taking(*records, until=FAR_OFF, heard=heard)
        began = batch.next.send_index != batch.seen.send_index
        self.write(draw, batch._replace(send_key=draw.key if draw.calls and began else None), records)

    def go_on(self, draw: Draw) -> None:
        """Append, by somebody who believes to hold the lease."""
        if (draw := self.believer(draw)) is not None:
            hand = self.hands[draw.hand]
            records, heard = self.next_records(hand, draw, hears=draw.yes)
            self.write(draw, hand._batch(records, hand.head.epoch, hand.holder, FAR_OFF)._replace(heard=heard), records)

    def let_go(self, draw: Draw) -> None:
        """End or break off the send and give the lease back."""
        if (draw := self.believer(draw)) is not None:
            hand = self.hands[draw.hand]
            ends = SendRested("interrupted") if hand.state.open_calls else SendEnded("completed")
            records = () if hand.state.idle else (ends,)
            self.write(draw, hand._batch(records, hand.head.epoch, None, 0), records)

    def post(self, draw: Draw) -> None:
        running = self.hands[draw.hand].head if draw.yes else None
        key = draw.key
        expected, raised, result = self.perform(
            lambda store: store.post(self.session, UserSaid(key), key=key, running=running), lambda: self.model.posts(key, running), draw
        )
        if raised is Died:
            return
        if raised is Conflict:
            assert expected is None, "its holder is there"
            return
        # Whoever lost an answer learns that the item is there, not whether it was so before.
        assert key in self.model.inbox
        assert draw.how.startswith("unsure") or result == bool(expected), (expected, result)
        self.acknowledged.append((self.session, key))

    def renew(self, draw: Draw) -> None:
        """Only the holder of the row's epoch moves its lease."""
        epoch = self.hands[draw.hand].head.epoch
        self.do(self.store.renew([(self.session, epoch)], 2 * FAR_OFF))
        if epoch == self.model.epoch and self.model.holder is not None:
            self.model.lease_until = 2 * FAR_OFF

    def line(self, draw: Draw) -> None:
        """Stand in line, or leave it."""
        if self.model.line and draw.yes:
            self.do(self.store.leave_line(self.model.line.pop(0 if draw.calls else -1)))
        else:
            self.model.line.append(self.do(self.store.queue_up(self.session, f"h{draw.hand}")))
            self.model.wake_no += 1

    def believer(self, draw: Draw) -> Draw | None:
        """The draw for one of those who believe to hold the lease."""
        believers = [at for at, hand in enumerate(self.hands) if hand.head.holder == hand.holder]
        return draw._replace(hand=believers[draw.hand % len(believers)]) if believers else None

    # --- how it is done ---------------------------------------------------------------------------------

    def write(self, draw: Draw, batch: Append, records: tuple[Record, ...]) -> None:
        # A batch that appends nothing is known by a mark in the row, which the next writer overwrites.
        draw = draw if records else draw._replace(rival=0)
        expected, raised, _ = self.perform(lambda store: store.append(batch), lambda: self.model.writes(batch), draw)
        hand = self.hands[draw.hand]
        if raised is None:
            assert expected, "the store wrote what the model refuses"
            hand.head = batch.next
            for record in records:
                hand.state = apply(hand.state, record)
        elif raised is Died:
            self.look_again(draw)
        else:
            assert not expected, "the store refused what the model writes"

    def perform(self, verb: Callable[[SessionStore], Awaitable[Any]], model: Callable[[], Any], draw: Draw) -> tuple[Any, Any, Any]:
        """(what the model says, what was raised, what was returned)"""
        manner, _, when = draw.how.partition(" ")
        at: When = "before" if when == "before" else "after"
        if manner == "dies":
            expected = model() if at == "after" else None
            return expected, *self.outcome(verb(DyingStore(self.store, 1, at)))
        if manner == "plain":
            return model(), *self.outcome(verb(self.store))
        unsure = UnsureDatabase(self.store.database, 1, at)
        unsure.meanwhile, expect_meanwhile = self.rivals()[draw.rival]
        if at == "before":
            expect_meanwhile()
        expected = model()
        if at == "after" and expected not in (None, False):
            expect_meanwhile()
        return expected, *self.outcome(verb(over(self.store, unsure)))

    def outcome(self, work: Awaitable[Any]) -> tuple[Any, Any]:
        try:
            return None, self.do(work)
        except (Conflict, Died) as error:
            return type(error), None

    def rivals(self) -> list[tuple[Callable[[], Awaitable[Any]] | None, Callable[[], Any]]]:
        """What others do between a COMMIT that raised and its repetition, and what the model makes of it."""
        self.marks += 1
        name, model = f"m{self.marks}", self.model

        def takes() -> None:
            model.epoch, model.holder, model.lease_until = model.epoch + 1, "rival", FAR_OFF

        async def takes_over() -> None:
            await (await Hand.of(self.store, self.session, "rival")).take()

        post = partial(self.store.post, self.session, UserSaid(name), key=name)
        return [(None, lambda: None), (post, lambda: model.posts(name, None)), (takes_over, takes)]

    def next_records(self, hand: Hand, draw: Draw, hears: bool) -> tuple[tuple[Record, ...], tuple[int, ...]]:
        """What the kernel might note here, and which items it hears with it."""
        state = hand.state
        if state.open_calls:
            return (ToolReturned(state.open_calls[0].id, "ok"),), ()
        if hears and (items := self.do(self.store.inbox(self.session))):
            return tuple(item.record for item in items), tuple(item.item_id for item in items)
        if state.idle:
            return (UserSaid("go"),), ()
        self.calls += 1
        asked = tuple(ToolCall(f"c{self.calls}.{n}", "act", "{}") for n in range(draw.calls))
        return ((ModelReplied("", asked),) if draw.calls else (ModelReplied("done"), SendEnded("completed"))), ()

    # --- what must hold -----------------------------------------------------------------------------------

    @invariant()
    def the_row_is_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        head, model = self.do(self.store.look(self.session)), self.model
        told = (model.head, model.epoch, model.holder, model.wake_no, None in model.inbox.values())
        assert (head.head, head.epoch, head.holder, head.wake_no, head.waiting) == told
        # A server keeps times by its own clock.
        assert abs(head.lease_until - model.lease_until) < A_MINUTE_MS, (head.lease_until, model.lease_until)
        assert head.first_ticket == min(model.line, default=None)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        found = self.do(check_invariants(self.store, acknowledged=self.acknowledged, sessions=[self.session]))
        assert not found, found
        rows = self.do(self.store.rows(self.session, after=0))
        assert [row.cells.kind for row in rows] == self.model.kinds
        waiting = [item.key for item in self.do(self.store.inbox(self.session))]
        assert waiting == [key for key, heard in self.model.inbox.items() if heard is None]


class Histories(Suite):
    """On any engine; a case is a seed, for so many histories."""

    def __init__(self, engine: str, *, seeds: int, histories: int = 100, shrink: bool = True) -> None:
        self.name = f"histories ({engine})"
        self._engine, self._seeds, self._histories = engine, seeds, histories
        self._phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    def open(self, stack: ExitStack) -> None:
        it = stack.enter_context(ready(self._engine))
        self._store, self._runner = it.store, it.runner

    def done(self) -> str:
        return f"{self._histories} histories each"

    def cases(self) -> range:
        return range(self._seeds)

    def run(self, case: int) -> list[str]:
        machine = seed(case)(type("Machine", (StoreMachine,), {"store": self._store, "runner": self._runner}))
        how = settings(
            max_examples=self._histories, stateful_step_count=STEPS, deadline=None, database=None, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck), phases=self._phases,
        )  # fmt: skip
        told = StringIO()
        try:
            with redirect_stdout(told):
                run_state_machine_as_test(machine, settings=how)
        except AssertionError as error:
            return ["\n".join([repr(error), *getattr(error, "__notes__", ()), told.getvalue()])]
        return []
