"""The books of one send: what it may still spend, with everybody else who charges the same ledgers.

A send without limits, at the top of its tree, keeps none. With them a model call is let through only while spent and
reserved together are below every limit, of its own send and of each send above it; what it may cost is reserved in
the batch before it, and settled in the batch that stores what came of it. A refusal is a record like any other stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from power_loop.contracts.codec import dumps
from power_loop.contracts.effects import CallModel
from power_loop.contracts.ledger import (
    NOTHING,
    OUTPUT_TOKENS,
    Change,
    Charge,
    Entries,
    Ledger,
    Reservation,
    Sums,
    call_key,
    ledger_id_of,
    purpose_of,
)
from power_loop.contracts.messages import estimate_text_tokens
from power_loop.contracts.records import CallCharged, ModelReplied, SendEnded, SendRested, StopRequested
from power_loop.contracts.store import SessionLog
from power_loop.contracts.usage import NO_USAGE, CallUsage, Usage
from power_loop.kernel.decide import decide
from power_loop.kernel.state import State
from power_loop.runtime.ports import priced

if TYPE_CHECKING:
    from power_loop.runtime.noted import Noted
    from power_loop.runtime.send import Send
    from power_loop.runtime.session import Session

# Of so many calls at once that see the same room one is let through; the others come back at different times, ever later.
STEP_S, LONGEST_S = 0.01, 0.25

# Why a call was charged whose process died.
INTERRUPTED = "interrupted"


class Books:
    """What one send charges, and whom."""

    __slots__ = (
        "_calls", "_dead", "_fresh", "_limits", "_open", "_own", "_owners", "_send_index", "_start", "_swaps", "_tools", "_want", "ledgers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ledgers: list[Ledger] = []
        """All that are charged, the topmost session's first, as last read or written."""
        self._own: str | None = None
        """The ledger of this send itself."""
        self._fresh: set[str] = set()
        """Of these, the ones that do not exist yet."""
        self._limits: Any = None
        """New limits of our own ledger, to be written."""
        self._start = NOTHING
        """What our send spent before its ledger counted it."""
        self._want: list[Reservation] = []
        """To be written with the next batch, for the call after it."""
        self._open: list[Reservation] = []
        """Written, and not settled."""
        self._swaps = False
        """What is wanted is for another call than the one that was reserved for: it takes the place of that."""
        self._dead: dict[int, list[Reservation]] = {}
        """What an older holder left reserved, by the record (its identity) that charges it."""
        self._owners: dict[str, str] = {}
        """Ledger → the session whose send it stands for."""
        self._send_index = 0
        """The send that `ledgers` are about; what an older holder left may belong to the one before."""
        self._calls = 0
        self._tools: tuple[Any, int] = (None, 0)

    # --- before a batch ------------------------------------------------------------------------

    async def prepare(self, send: Send) -> None:
        """Reserve for the model call that follows from all that is noted, if one does; or note that the send stops."""
        if self._bound and not self._reserved(send.noted) and send.scope.stop is None:
            effect = decide(send.ahead, send.terms.limits, effects_of=send.effects_of)
            if isinstance(effect, CallModel):
                self._ask_for(send, effect.purpose)
        await self._weigh(send)

    async def may_call(self, send: Send, purpose: str, *, hears: bool = True, amount: Sums | None = None) -> bool:
        """Write what is noted, with a reservation for the call that follows; False when the send stops instead.

        ``amount``: what it may cost, for another request than that of the next round.
        """
        if self._bound and (amount is not None or not self._reserved(send.noted)):
            self._swaps = amount is not None
            self._ask_for(send, purpose, amount)
        await send.flush(hears=hears)
        return send.ahead.stop is None

    async def stand_back(self, send: Send, tries: int) -> None:
        """A batch was refused ``tries`` times before this one: most likely since others were let through meanwhile."""
        if tries:
            await send.ports.clock.sleep(send.ports.ids.uniform(0.0, min(tries * STEP_S, LONGEST_S)))

    async def look_again(self, send: Send) -> None:
        """A guard failed: perhaps somebody else was let through, or a ledger is gone with its session."""
        await self._read(send)
        await self._weigh(send, seen=True)

    async def has_room(self, send: Send, more: Sums) -> bool:
        """No limit is reached by all that is known to be spent, and ``more``; for who does not hold the session any longer."""
        await self._read(send)
        return all(ledger.spent.plus(ledger.reserved).plus(more).used_up(ledger.limits) is None for ledger in self.ledgers)

    def _ask_for(self, send: Send, purpose: str, amount: Sums | None = None) -> None:
        amount = amount or self._estimate(send)
        self._calls = max(self._calls + 1, send.ahead.usage.calls)
        self._want = [
            Reservation(call_key(send.send_index, self._calls, level, purpose), ledger.ledger_id, amount)
            for level, ledger in enumerate(self.ledgers)
            if ledger.limits
        ]

    async def _weigh(self, send: Send, *, seen: bool = False) -> None:
        """Is there room for what is wanted? What we know may be old, so nobody is refused before another look."""
        if not self._want:
            return
        if (used := self._used_up(send)) is not None and not seen:
            await self._read(send)
            used = self._used_up(send)
        if used is not None:
            self._want = []
            if not (send.ahead.idle or send.ahead.stop):
                send.note(StopRequested("budget_exceeded", used, "ledger"))

    async def _read(self, send: Send) -> None:
        known = [ledger.ledger_id for ledger in self.ledgers]
        found = {ledger.ledger_id: ledger for ledger in await send.ports.log.ledgers(known, asking=send.session_id)}
        self._fresh -= found.keys()  # a send beside ours opened them first
        limits = {ledger.ledger_id: ledger.limits for ledger in self.ledgers if self._limits is not None and ledger.ledger_id == self._own}
        self.ledgers = [
            found[one.ledger_id]._replace(limits=limits.get(one.ledger_id, found[one.ledger_id].limits)) if one.ledger_id in found else one
            for one in self.ledgers
            if one.ledger_id in found or one.ledger_id in self._fresh
        ]

    @property
    def wants(self) -> bool:
        """There is something to write even when nothing is noted."""
        return bool(self._want)

    @property
    def limits(self) -> dict[str, Any]:
        """All that bound this send; of two of one name the one that is nearer."""
        return {name: limit for ledger in self.ledgers for name, limit in ledger.limits.items()}

    @property
    def spent_tokens(self) -> int:
        """Of the topmost ledger, as far as we know."""
        return self.ledgers[0].spent.input_tokens + self.ledgers[0].spent.output_tokens if self.ledgers else 0

    @property
    def _bound(self) -> bool:
        return any(ledger.limits for ledger in self.ledgers)

    def _reserved(self, noted: Sequence[Noted]) -> bool:
        """There is a reservation for the next call: one wanted, or one that no charge has used up."""
        return bool(self._want) or (bool(self._open) and not any(self._is_ours(each.record) for each in noted))

    def _is_ours(self, record: object) -> bool:
        """It charges a call that this holder made."""
        return isinstance(record, (ModelReplied, CallCharged)) and record.usage.calls > 0 and id(record) not in self._dead

    def _estimate(self, send: Send) -> Sums:
        """What the next call may cost: the request as it is known, and the longest reply."""
        terms, tools = send.terms, send.terms.tools.to_openai_tools() if send.terms.tools is not None else None
        if self._tools[0] is not tools:
            self._tools = (tools, estimate_text_tokens(dumps(tools)) if tools else 0)
        noted = sum(estimate_text_tokens(each.row.cells.content or "") for each in send.noted)
        prompt = send.session.window.estimate(estimate_text_tokens(terms.system_text) + self._tools[1] + noted)
        usage = CallUsage(prompt, terms.settings.max_tokens or OUTPUT_TOKENS, calls=1)
        return Sums.of(priced(terms.settings, usage, _model_of(send)))

    # --- with a batch ---------------------------------------------------------------------------

    def entries(self, noted: Sequence[Noted], *, release: bool) -> Entries | None:
        """What the batch that writes ``noted`` changes; None when that is nothing."""
        ends = release or (bool(noted) and isinstance(noted[-1].record, (SendEnded, SendRested)))
        want = [] if ends else self._want
        used = any(self._is_ours(each.record) for each in noted)
        opened = [ledger for ledger in self.ledgers if ledger.ledger_id in self._fresh]
        settled = [each.call_key for each in self._open] if used or (want and self._swaps) else []
        settled += [each.call_key for kept in self._dead.values() for each in kept]
        entries = Entries(opened, self._changes(noted, bool(want)), self._lines(noted), want, settled, ends)
        return entries if any(entries) else None

    def wrote(self, entries: Entries | None) -> None:
        """The batch with these entries is there."""
        if entries is None:
            return
        changes = {change.ledger_id: change for change in entries.changed}
        self.ledgers = [_after(ledger, changes.get(ledger.ledger_id)) for ledger in self.ledgers]
        left = [] if entries.ends else [each for each in self._open if each.call_key not in entries.settled]
        self._open = [*left, *entries.reserved]
        self.caught_up()

    def caught_up(self) -> None:
        """What was to be written is there, though nobody could say what came of it; how much is left we may not know."""
        self._fresh, self._limits, self._start, self._want, self._dead = set(), None, NOTHING, [], {}
        self._swaps = False

    def withdraw(self) -> None:
        """Nothing of what was noted stands."""
        self._want, self._dead, self._swaps = [], {}, False

    def _changes(self, noted: Sequence[Noted], lets_through: bool) -> list[Change]:
        """What each ledger sees spent; those of a send before this one, that a dead holder left, stand last."""
        spent: dict[str, Sums] = {ledger.ledger_id: NOTHING for ledger in self.ledgers}
        if self._own is not None:
            spent[self._own] = self._start
        for each in noted:
            for ledger_id in self._charged_by(each):
                spent[ledger_id] = spent.get(ledger_id, NOTHING).plus(_spent(each))
        known = {ledger.ledger_id: ledger for ledger in self.ledgers}
        changes: list[Change] = []
        for ledger_id, sums in spent.items():
            ledger = known.get(ledger_id)
            version = ledger.version if ledger is not None and ledger.limits and lets_through else None
            limits = self._limits if ledger_id == self._own and ledger_id not in self._fresh else None
            if version is not None or limits is not None or any(sums):
                changes.append(Change(ledger_id, sums, version, limits))
        return changes

    def _lines(self, noted: Sequence[Noted]) -> list[Charge]:
        """Each call as a line in every ledger that stands for somebody else's send."""
        lines: list[Charge] = []
        for each in noted:
            record = each.record
            if isinstance(record, (ModelReplied, CallCharged)) and record.usage.calls:
                line = (each.row.send_index, each.row.seq, record.purpose, record.model, record.usage)
                others = [one for one in self._charged_by(each) if one != self._own and one in self._owners]
                lines += [Charge(one, self._owners[one], *line) for one in others]
        return lines

    def _charged_by(self, noted: Noted) -> list[str]:
        """The ledgers that a record is charged to."""
        dead = self._dead.get(id(noted.record))
        ids = [ledger.ledger_id for ledger in self.ledgers] if noted.row.send_index == self._send_index else []
        return ids if dead is None else [*ids, *(each.ledger_id for each in dead if each.ledger_id not in ids)]

    def _used_up(self, send: Send) -> str | None:
        """The name of the limit that is reached, by what is written, reserved by others, and noted here."""
        changes = {change.ledger_id: change.spent for change in self._changes(send.noted, False)}
        for ledger in self.ledgers:
            spent = ledger.spent.plus(ledger.reserved).plus(changes.get(ledger.ledger_id, NOTHING))
            if name := spent.used_up(ledger.limits):
                return name
        return None

    # --- opening them ------------------------------------------------------------------------------

    async def settle_the_dead(self, send: Send) -> bool:
        """Note what an older holder left reserved as charged, by estimate; False when there is nothing."""
        log, calls = send.ports.log, dict[str, list[Reservation]]()
        for each in await log.reservations(send.session_id):
            calls.setdefault(_call_of(each.call_key), []).append(each)
        there = await log.ledgers(sorted({each.ledger_id for kept in calls.values() for each in kept}))
        self._owners |= {ledger.ledger_id: ledger.session_id for ledger in there if ledger.session_id != send.session_id}
        known = {ledger.ledger_id for ledger in there}
        for kept in calls.values():
            amount = kept[0].amount
            cost = amount.cost if send.terms.settings.prices is not None else None
            usage = CallUsage(amount.input_tokens, amount.output_tokens, calls=1, cost=cost, estimated=True)
            record = CallCharged(purpose_of(kept[0].call_key), usage, INTERRUPTED, _model_of(send))
            self._dead[id(record)] = [each for each in kept if each.ledger_id in known]
            send.note(record)
        return bool(calls)

    async def enter(self, send: Send) -> None:
        """Find the ledgers that this send charges: its own where it has limits, and those of the sends above it."""
        log, own = send.ports.log, ledger_id_of(send.session_id, send.send_index)
        self._send_index = send.send_index
        above = await log.sends_above(send.session_id) if send.session.parent is not None else []
        goes_on = send.send_index == send.session.head.send_index
        ids = {ledger_id_of(*sender): sender for sender in above}
        there = {one.ledger_id: one for one in await log.ledgers([*ids, *([own] if goes_on else [])], asking=send.session_id)}
        self.ledgers = [there.get(one) or Ledger(one, *sender) for one, sender in ids.items()]
        self._owners |= {one: session_id for one, (session_id, _) in ids.items()}
        self._fresh = {one for one in ids if one not in there}
        if own in there:
            send.session.below = own
        await self.enter_late(send)
        self._enter_own(send, own, there.get(own))

    async def enter_late(self, send: Send) -> bool:
        """What was called for a send before this one, and is heard only now (a fold after its result), is charged to that one.

        False where that one has no limits.
        """
        ours = None if send.ahead.idle else send.send_index
        late = [each for each in send.noted if isinstance(each.record, CallCharged) and each.row.send_index != ours]
        late = [each for each in late if id(each.record) not in self._dead]
        for each in late:
            ledgers = await send.ports.log.ledgers((ledger_id_of(send.session_id, each.row.send_index),))
            # Without limits it counts others only.
            self._dead[id(each.record)] = [Reservation("", one.ledger_id, NOTHING) for one in ledgers if one.limits]
        return any(self._dead.values())

    def _enter_own(self, send: Send, own: str, there: Ledger | None) -> None:
        """The ledger of this send, if it has limits, or had some before it was resumed."""
        usage = send.terms.limits.usage
        limits = usage.to_dict() if usage is not None else {}
        limits.pop("seconds", None)
        if not limits and not (there is not None and there.limits):
            return
        ledger = there or Ledger(own, send.session_id, send.send_index)
        if not ledger.limits:  # from now on it counts this send too, and what it has spent until now
            state = send.session.state if send.send_index == send.session.head.send_index else State()
            self._start = Sums.of(state.usage)._replace(tool_calls=state.tool_calls)
        self._own = own
        self._fresh |= {own} if there is None else set()
        self._limits = limits if limits and limits != ledger.limits else None
        self.ledgers.append(ledger._replace(limits=limits or ledger.limits))


async def settle_the_dead(send: Send) -> None:
    """The session was cut off, perhaps in a model call that was reserved for: charge that before anything else."""
    books = Books()
    if await books.settle_the_dead(send):
        send.books = books


async def charge_late(send: Send) -> None:
    """Charge what was heard of a send that is over, before anything of it is written: handlers may look before the next one begins."""
    books = send.books or Books()
    if await books.enter_late(send):
        send.books = books


async def keep_books(send: Send) -> None:
    """Open the books of a send that has limits, stands below another one, or goes on."""
    books = send.books or Books()
    await books.enter(send)
    if books.ledgers:
        send.books = books
    if send.books is not None:
        await send.books.prepare(send)


async def learn_of_others(send: Send) -> None:
    """Somebody moved the session while its tools run: perhaps a sub-agent, that charges this send from now on."""
    own = ledger_id_of(send.session_id, send.send_index)
    if send.session.below != own and await send.ports.log.ledgers((own,)):
        send.session.below = own


async def whole_usage(log: SessionLog, session: Session, usage: Usage) -> Usage:
    """``usage`` of the last send of ``session``, with what its sub-agents used."""
    return usage + Usage.of(await log.charged_below(ledger_id_of(session.head.session_id, session.head.send_index)))


def _model_of(send: Send) -> str | None:
    return send.terms.settings.model or getattr(send.ports.model, "model", None)


def _spent(noted: Noted) -> Sums:
    record = noted.record
    usage = record.usage if isinstance(record, (ModelReplied, CallCharged)) else NO_USAGE
    return Sums.of(usage)._replace(tool_calls=noted.tally.tool_calls)


def _call_of(key: str) -> str:
    send_index, call, _, purpose = key.split(".", 3)
    return f"{send_index}.{call}.{purpose}"


def _after(ledger: Ledger, change: Change | None) -> Ledger:
    if change is None:
        return ledger
    return ledger._replace(spent=ledger.spent.plus(change.spent), version=ledger.version + (change.version is not None))
