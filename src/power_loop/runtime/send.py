"""One send in hand: what was noted of it, how that is written, and what follows.

Records are noted as they arise and written in one batch before the next deed that reaches outside: a model, a
tool, a hook handler, the caller. So a plain send is two batches and a tool round two more, and nobody outside
ever acts on what is not durable. Performing what follows is `perform`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from power_loop.context.fold import exceeds
from power_loop.context.window import Window, tokens_of
from power_loop.contracts.codec import to_cells
from power_loop.contracts.effects import Effect
from power_loop.contracts.errors import SessionLeaseLost
from power_loop.contracts.jobs import Job
from power_loop.contracts.made import made
from power_loop.contracts.records import (
    CallCharged,
    ContextFolded,
    Decided,
    ModelReplied,
    Record,
    SendEnded,
    SendProjected,
    ToolParked,
    ToolReturned,
    UserSaid,
)
from power_loop.contracts.store import FAR, Append, Conflict, Head, InboxItem, RecordRow, TimerMove
from power_loop.contracts.tool import Effects
from power_loop.kernel.decide import decide
from power_loop.kernel.hears import hears
from power_loop.kernel.state import State, apply, round_of
from power_loop.kernel.tally import counts, joined
from power_loop.runtime.asking import at_message_append
from power_loop.runtime.cancel import Scope
from power_loop.runtime.heard import as_follow_up, wakes
from power_loop.runtime.noted import MAX_CONFLICTS, KeyTaken, Noted, Posts, leaving, no_way_through, staying
from power_loop.runtime.ports import Ports, Terms, effects_of
from power_loop.runtime.project_send import projection_of
from power_loop.runtime.session import Session
from power_loop.runtime.tell import Teller, tell_of_posts
from power_loop.runtime.told import Written

if TYPE_CHECKING:
    from power_loop.runtime.ledger import Books


class Send:
    """One send in hand: its session, what was noted of it, and how to go on."""

    __slots__ = (
        "ahead", "books", "closes", "error", "fold_seq", "fold_through", "heard", "key", "noted", "output", "overflow_at", "partial_text",
        "ports", "posts", "round_open", "rounds_here", "scope", "seen_jobs", "send_index", "send_seq", "session", "session_id", "teller",
        "terms", "timers", "window",
    )  # fmt: skip

    fold_seq: int
    fold_through: int
    ports: Ports
    send_index: int
    send_seq: int
    session: Session
    terms: Terms

    def __init__(self, ports: Ports, terms: Terms, session: Session) -> None:
        self.ports, self.terms, self.session = ports, terms, session
        self.ahead: State = session.state
        """With the records that are noted and not yet written."""
        self.noted: list[Noted] = []
        self.heard: list[int] = []
        """Inbox items that enter with the next batch."""
        self.send_index, self.send_seq = session.head.send_index, session.head.send_seq
        self.fold_seq, self.fold_through = session.head.fold_seq, session.head.fold_through
        self.session_id: str = session.head.session_id
        self.scope: Scope = Scope()
        self.teller: Teller = Teller(ports.bus, session, terms.depth, terms.limits.rounds, ports.clock.now_ms)
        self.teller.send_index = self.send_index
        self.teller.takes_over = not (session.state.idle or session.state.status)
        self.key: str | None = None
        """Makes this send unique in its session; kept with the batch that begins it."""
        self.round_open: bool = False
        self.rounds_here: int = 0
        self.partial_text: str = ""
        self.error: dict[str, Any] | None = None
        self.books: Books | None = None
        """What it may spend, where there are limits or somebody above it; None for a plain send."""
        self.output: tuple[str, Any] | None = None
        """The last answer that was found to be of the form that was asked for, and its value."""
        self.closes: list[str] = []
        """Sessions that go with the next batch, because what they were for is in it."""
        self.posts: Posts = {}
        self.seen_jobs: Sequence[Job] = ()
        """Their end was told to the reply that is noted; they count as seen with the batch that stores it."""
        self.timers: Sequence[TimerMove] = ()
        """What becomes of timers with the next batch."""
        self.overflow_at: int | None = None
        """So many tokens are too many, the provider said; less than the configuration allows."""
        self.window: Window = session.window
        """What the model sees: the session's, or one of this run, when a hook replaced the messages."""

    # --- what follows ----------------------------------------------------------------------

    def next(self) -> Effect:
        """What follows from everything noted, written or not."""
        if self.terms.cancel is not None:
            self.terms.cancel.is_cancelled()  # what cannot call back is asked; if so, the scope hears of it
        if self.scope.stop is not None and not (self.ahead.stop or self.ahead.idle):
            self.note(self.scope.stop)
        return decide(self.ahead, self.terms.limits, self.effects_of, self._window_is_too_long)

    def _window_is_too_long(self) -> bool:
        limit = self.overflow_at or self.terms.settings.context_tokens
        if limit is None:
            return False
        window = self.session.window
        if self.window is not window:  # what a handler put in its place is not ours to fold
            return False
        # Which results are written by now, and which only noted, is a matter of time: both count.
        more = (window.landed() + sum(tokens_of(noted.row.cells) for noted in self.noted)) if self.noted else 0
        return exceeds(window, self.terms.head_tokens, limit, more)

    # --- the one way to write ----------------------------------------------------------------

    def note(self, record: Record) -> None:
        """``record`` is true from now on; it is written with the next batch."""
        before, call = self.ahead, None
        # By type: every record is asked, and `isinstance` takes many times as long to say no.
        if type(record) is ToolReturned or type(record) is ToolParked:
            call = before.call(record.call_id)
            if call is None:
                return  # answered from outside while it ran: a call has one answer
        if type(record) is SendEnded and self.session.window.projects and (shown := projection_of(self)) is not None:
            self.note(shown)
        self.ahead = apply(before, record)
        seq = self.session.head.head + len(self.noted) + 1
        if type(record) is UserSaid and before.idle:
            self.send_index, self.send_seq = self.send_index + 1, seq
            self.teller.send_index, self.session.below = self.send_index, None
        elif type(record) is ContextFolded:
            self.fold_seq, self.fold_through = seq, record.through
        row = made(RecordRow, (seq, self.send_index, round_of(before, record), to_cells(record), 0, None, 0))
        self.noted.append(made(Noted, (record, row, before, counts(before, record))))
        if not self.ports.bus.silent:
            asked = before.question(record.call_id) if isinstance(record, Decided) else None
            self.teller.wrote(Written(record, row, call, asked))

    async def say(self, record: UserSaid | ModelReplied | ToolReturned) -> None:
        """Note a message, after the handlers at ``message.append`` have seen it."""
        if "message.append" in self.ports.hooks.standing:
            await self.flush()
            shaped = await at_message_append(self, record)
            if shaped is None:
                return
            record = shaped
        self.note(record)

    async def flush(self, *, release: bool = False, hears: bool = True) -> None:
        """Durable first, then believed, then told. ``hears``: should something wait by now that may be heard, it is."""
        if self.books is not None and not release:
            await self.books.prepare(self)
        if not self.noted and not self.heard and not release and (self.books is None or not self.books.wants):
            self.teller.answer_for_listeners()
            return
        batch = self.batch(release=release)
        for tries in range(MAX_CONFLICTS):
            try:
                await self.ports.log.append(batch)
            except Conflict:
                if self.books is not None:
                    await self.books.stand_back(self, tries)
                release = await self._look_again(hears) and release
                batch = self.batch(release=release)
            else:
                self.believe(batch)
                self.teller.answer_for_listeners()
                if batch.posts:
                    await tell_of_posts(self.ports.bus, self.ports.log, batch.posts)
                return
        raise no_way_through(self.session_id, MAX_CONFLICTS)

    def batch(self, *, release: bool = False) -> Append:
        """What is noted, as one write under the lease that we hold."""
        now = self.ports.clock.now_ms()
        if release:
            return self._append(self.session.head.epoch, None, 0, 0, now)
        return self._append(self.session.head.epoch, self.ports.holder, now + self.terms.settings.lease_ttl_ms, 0, now)

    def take(self, now: int, *, ticket: int | None, bound: int) -> Append:
        """What is noted, as one write that takes the lease."""
        seen = self.session.head
        takeovers = seen.takeovers + (seen.holder is not None)
        until = now + self.terms.settings.lease_ttl_ms
        return self._append(seen.epoch + 1, self.ports.holder, until, takeovers, now, ticket, self.ports.ids.bits(62), bound)

    def _append(
        self, epoch: int, holder: str | None, until: int, takeovers: int, now: int, ticket: int | None = None, take_id: int | None = None,
        bound: int = FAR,
    ) -> Append:  # fmt: skip
        seen, noted = self.session.head, self.noted
        # Who had to stand in line may have others behind: with its ticket left in the head, the next run looks first.
        head = made(Head, (
            seen.session_id, seen.head + len(noted), epoch, holder, until, seen.wake_no, self.send_index, self.send_seq,
            self.fold_seq, self.fold_through, seen.archived, takeovers, ticket if take_id is not None else seen.first_ticket, seen.waiting,
        ))  # fmt: skip
        rows, tallies = [each.row for each in noted], [each.tally for each in noted]
        key, closes = self.key if noted else None, ()
        entries = self.books.entries(noted, release=holder is None) if self.books is not None else None
        if self.closes and any(isinstance(each.record, ToolReturned) for each in noted):
            closes = tuple(self.closes)
        posts = leaving(self.posts, rows) if self.posts else ()
        return made(Append, (
            seen, head, rows, joined(tallies), tuple(self.heard), ticket, take_id, bound, key, now, self.seen_jobs, entries, closes,
            self.timers, posts,
        ))  # fmt: skip

    def believe(self, batch: Append) -> None:
        """The batch is written."""
        rows = batch.rows
        self.session.believe(batch.next, rows, self.ahead)
        if self.window is not self.session.window:
            for row in rows:
                self.window.add(row)
        self.noted, self.heard, self.seen_jobs, self.timers = [], [], (), ()
        if batch.closes:
            self.closes = []
        if batch.posts:
            self.posts = staying(self.posts, rows)
        if batch.send_key is not None:
            self.key = None
        if self.books is not None:
            self.books.wrote(batch.entries)
        self.teller.flush()

    async def _look_again(self, hears: bool = True) -> bool:
        """A guard failed: another holder (stop), or something waits to be heard. True when we may still rest."""
        await self.scan()
        if self.key is not None and await self.ports.log.send_of_key(self.session_id, self.key) is not None:
            self._withdraw()
            raise KeyTaken
        rests = not self._take_back_the_end()
        if hears and self.session.waiting and not self.ports.hooks.stands("message.append", "timer.fire"):
            await self.hear()
        if self.books is not None:
            await self.books.look_again(self)
        elif self.ahead.asked:
            from power_loop.runtime.ledger import learn_of_others  # most sends have no ledger

            await learn_of_others(self)
        return rests

    async def scan(self) -> None:
        """See what waits in the inbox by now. Raises `SessionLeaseLost` where somebody else has written meanwhile."""
        head, seen, taken = await self.ports.log.look(self.session_id), self.session.head, set(self.heard)
        if (head.epoch, head.head) != (seen.epoch, seen.head):
            raise SessionLeaseLost(self.session_id, epoch=seen.epoch)
        waiting = await self.ports.log.inbox(self.session_id) if head.waiting else []
        self.session.head, self.session.waiting = head, [item for item in waiting if item.item_id not in taken]

    def _withdraw(self) -> None:
        """Nothing of what was noted stands, and nothing was heard."""
        self.noted, self.heard, self.timers, self.ahead, self.key = [], [], (), self.session.state, None
        if self.books is not None:
            self.books.withdraw()
        self.send_index, self.send_seq = self.session.head.send_index, self.session.head.send_seq

    def _take_back_the_end(self) -> bool:
        """An end that was noted does not stand while something may be heard that wants an answer."""
        last = self.noted[-1] if self.noted else None
        if last is None or not any(wakes(last.record, last.before, item.record) for item in self.session.waiting):
            return False
        self.take_back_last()
        return True

    def take_back_last(self) -> None:
        """The last record that was noted does not stand."""
        last = self.noted.pop()
        if self.noted and isinstance(self.noted[-1].record, SendProjected):  # made for the end that is taken back
            last = self.noted.pop()._replace(record=last.record)
        self.ahead = last.before
        self.teller.forget(last.record)

    # --- the inbox -------------------------------------------------------------------------------

    async def hear(self, *, begins: bool = False) -> None:
        """Take from what waits all that may enter now; words that came together are one row.

        ``begins``: the session is at rest and what waits may begin a send.
        """
        if self.ahead.idle and not begins:
            # What came too late for the send that just ended is dropped; words may begin the next one.
            self.heard += [item.item_id for item in self.session.waiting if hears(self.ahead, item.record) is False]
            self.session.waiting = [item for item in self.session.waiting if hears(self.ahead, item.record) is not False]
            return
        words: list[InboxItem] = []
        left: list[InboxItem] = []
        for item in self.session.waiting:
            fits = hears(self.ahead, item.record)
            if isinstance(item.record, ContextFolded) and item.record.through <= self.fold_through:
                fits = False  # somebody else folded as much meanwhile
            if fits is None:
                left.append(item)
            elif fits and isinstance(item.record, UserSaid):
                words.append(item)
            else:
                self.heard.append(item.item_id)
                if fits:
                    self.note(item.record)
        if self.ahead.stop is not None:  # heard just now: a send that stops takes no word
            words, left = [], [item for item in self.session.waiting if item in words or item in left]
        self.session.waiting = left
        if begins and any(isinstance(each.record, CallCharged) for each in self.noted):
            from power_loop.runtime.ledger import charge_late  # most sends have no ledger

            await charge_late(self)
        if words:
            await self._hear_words(words)

    def hear_decisions(self) -> None:
        """Note what was decided about calls that wait, although they are answered otherwise now."""
        for item in list(self.session.waiting):
            if isinstance(item.record, Decided) and hears(self.ahead, item.record):
                self.heard.append(item.item_id)
                self.session.waiting.remove(item)
                self.note(item.record)

    def may_hear_a_word(self) -> bool:
        """A word waits that could enter now."""
        if not self.session.waiting:
            return False
        return any(isinstance(item.record, UserSaid) and hears(self.ahead, item.record) for item in self.session.waiting)

    async def _hear_words(self, items: Sequence[InboxItem]) -> None:
        """Note the words of ``items`` and that they were heard: both in one batch, or a crash in between loses them."""
        words = {item.item_id: item.record for item in items if isinstance(item.record, UserSaid)}
        timed = any(word.name == "timer" for word in words.values())
        if timed:
            from power_loop.runtime.timers import at_timer_fire  # most sessions have no timers

            words = await at_timer_fire(self, items, words)
            if not words:
                return
        record: Record | None = as_follow_up(list(words.values()))
        if "message.append" in self.ports.hooks.standing:
            await self.flush()
            record = await at_message_append(self, record)
            # The inbox may have been scanned again meanwhile, with these items still in it.
            self.session.waiting = [item for item in self.session.waiting if item.item_id not in words]
        self.heard += words
        if record is not None:
            self.note(record)
        if timed and record is not None:
            from power_loop.runtime.timers import tell_delivered  # most sessions have no timers

            tell_delivered(self, items, words)

    # --- what the terms say ---------------------------------------------------------------------------

    def effects_of(self, name: str) -> Effects:
        return effects_of(self.terms.tools, self.terms.settings, name)
