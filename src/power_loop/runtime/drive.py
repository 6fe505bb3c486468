"""Taking a session in hand: the line, the lease, the run, and giving it all back.

One driver per session: in this process by a line, over processes by the lease in the session's row. Whoever
comes second waits in order, or is refused before any model is paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from power_loop.context.represent import Representation
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import PowerLoopError, SessionBusyError, SessionLeaseLost, StoreUnavailable
from power_loop.contracts.log import log
from power_loop.contracts.outcome import StatefulResult, described
from power_loop.contracts.records import CallCharged, StopRequested
from power_loop.contracts.store import FAR, Append, Conflict
from power_loop.contracts.to_end import to_its_end, unhurried
from power_loop.runtime.fold_after import FoldsAfter, due_after
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.late import keep_unwritten
from power_loop.runtime.let_go import let_go
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.line import SessionLines
from power_loop.runtime.noted import KeyTaken
from power_loop.runtime.openings import Forsake, Opening
from power_loop.runtime.openings_worker import goes_on
from power_loop.runtime.outcome import result_of
from power_loop.runtime.output import output_of
from power_loop.runtime.patience import OwnPatience, Patience, Place
from power_loop.runtime.perform import run
from power_loop.runtime.ports import Ports, Terms
from power_loop.runtime.project_send import migrate
from power_loop.runtime.rounds import leave_round
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session
from power_loop.runtime.session_cache import SessionCache
from power_loop.runtime.stops import unwatched

if TYPE_CHECKING:
    from power_loop.runtime.memory import LoopMemory


def word_for_word() -> Representation | None:
    """Finished sends are shown as they were said."""


# Why a sub-agent ends whose call was answered without it.
NOBODY_WAITS = "nobody waits for it any more"


class Driver:
    """Drives the sessions of one loop."""

    lines: SessionLines

    def __init__(
        self, ports: Ports, lines: SessionLines, heartbeat: Heartbeat, lifeline: Lifeline, *, cache_size: int,
        shown_as: Callable[[], Representation | None] = word_for_word, folds: FoldsAfter | None = None,
    ) -> None:  # fmt: skip
        self._ports, self._shown_as, self.lines, self._heartbeat, self._lifeline = ports, shown_as, lines, heartbeat, lifeline
        self.cache: SessionCache = SessionCache(cache_size)
        self.running: dict[str, Send] = {}
        self.folds: FoldsAfter = folds or FoldsAfter()
        self.memory: LoopMemory | None = None
        """Told of every send that has ended."""
        self.owes: bool = False
        """A lease was not given back, because the database was away."""
        self._stop: StopRequested | None = None
        """Why nothing more is driven here."""

    def stop(self, why: StopRequested) -> None:
        """Cancel what runs, and begin nothing more: what still waits for a session raises `RuntimeError`."""
        self._stop = why
        for send in list(self.running.values()):
            send.scope.request(why)

    async def drive(
        self,
        session_id: str,
        opening: Opening,
        terms: Callable[[Session], Terms],
        patience: Patience,
        watch: Callable[[Send], Callable[[], None]],
        cancel: CancellationToken | None = None,
    ) -> StatefulResult:
        """Take the session, run it until it rests, and say how it stands; as it stood, where there was nothing to do.

        ``terms`` are asked for once the session is known; ``watch`` ties the send to what may stop it, and its
        answer unties it. ``cancel`` ends the wait for a fold that the send before left. Raises what `openings` refuse,
        `SessionBusyError`, `SessionLeaseLost`, `LLMError`, `RuntimeError` after `stop`, and what hooks raise.
        """
        if not self.lines.enter(session_id):
            patience = await self._wait_in_process(session_id, patience)
        try:
            if self.folds.busy(session_id):
                await self.folds.settled(session_id, cancel)
            session, send = await self._take(session_id, opening, terms, patience)
            if send is None:
                return await self.with_others(session, result_of(session, rounds=0))
            try:
                await self._run(send, watch)
            except Exception:
                if self.memory is not None:
                    self.memory.begin(send)
                raise
            result = result_of(session, rounds=send.rounds_here, partial_text=send.partial_text)
            if session.below is not None or send.books is not None:
                await self.with_others(session, result)
            if send.terms.output is not None and result.status == "completed":
                result.output = await output_of(send, result.final_text)
            send.teller.result(result)
            if self.memory is not None:
                self.memory.begin(send)
            if (part := due_after(send)) is not None:
                self.folds.begin(send, part)
            send.teller.answer_for_listeners()
            return result
        finally:
            self.lines.leave(session_id)

    async def with_others(self, session: Session, result: StatefulResult) -> StatefulResult:
        """The result, with what sub-agents used. A session that was just read does not know yet whether it has any."""
        if session.below is not None or session.state.tool_calls:
            from power_loop.runtime.ledger import whole_usage  # most sends have no ledger

            result.usage = await whole_usage(self._ports.log, session, result.usage)
        return result

    # --- the lease -----------------------------------------------------------------------------

    async def _wait_in_process(self, session_id: str, patience: Patience) -> Patience:
        """Wait for our turn among those of this process; the patience that is left for those of others."""
        send, since = self.running.get(session_id), self._ports.clock.monotonic()
        busy = SessionBusyError(session_id, holder=self._ports.holder, expires_at=send.session.head.lease_until if send else 0)
        if patience.on_busy == "raise":
            raise busy
        try:
            async with asyncio.timeout(patience.busy_timeout_s):
                await self.lines.wait(session_id)
        except TimeoutError:
            raise busy from None
        if patience.busy_timeout_s is None:
            return patience
        return OwnPatience(patience.on_busy, patience.busy_timeout_s - (self._ports.clock.monotonic() - since))

    def forget(self, session_id: str) -> None:
        """The session is deleted."""
        self.cache.forget(session_id)
        self.folds.give_up(session_id)

    async def _take(
        self, session_id: str, opening: Opening, terms: Callable[[Session], Terms], patience: Patience
    ) -> tuple[Session, Send | None]:
        """Take the lease, with the first words of the run in the same batch. Warm and undisturbed: one write, no read."""
        session, shown_as = self.cache.get(session_id), self._shown_as()
        try:
            if session is not None and session.shown_as is shown_as:
                send = await self._take_as_seen(session, opening, terms)
                if send is not None:
                    return session, send
                await session.refresh(self._ports.log)
            else:
                session = await Session.load(self._ports.log, session_id, shown_as)
            send = await self._take_in_turn(session, opening, terms, patience)
        except BaseException:
            self.cache.forget(session_id)
            raise
        self.cache.keep(session)
        return session, send

    async def _take_as_seen(self, session: Session, opening: Opening, terms: Callable[[Session], Terms]) -> Send | None:
        """While the session is as last seen, nobody stands in line for it. None where it moved, or nothing was to be done."""
        self._check_going(session)
        if not self._may_take(session, None):
            return None
        epoch = session.head.epoch
        try:
            return await self._enter(session, opening, terms, None)
        except Conflict:
            await self._refuse_taken_key(session, opening)
        except PowerLoopError:
            if session.head.epoch != epoch:
                raise
        return None

    async def _take_in_turn(
        self, session: Session, opening: Opening, terms: Callable[[Session], Terms], patience: Patience
    ) -> Send | None:  # fmt: skip
        """Take what was just read, in line for as long as others drive it. None where nothing is to be done."""
        place = Place(self._ports, session.head.session_id, patience, self._lifeline)
        send: Send | None = None
        try:
            while True:
                self._check_going(session)
                if self._may_take(session, place.ticket):
                    try:
                        send = await self._enter(session, opening, terms, place.ticket)
                        return send
                    except Conflict:
                        await self._refuse_taken_key(session, opening)
                        await place.stand()
                else:
                    await place.wait(session)
                await session.refresh(self._ports.log)
        finally:
            if send is None:
                await place.leave()

    def _check_going(self, session: Session) -> None:
        if self._stop is not None:
            raise RuntimeError(f"{self._stop.reason} while this waited for session {session.head.session_id!r}: nothing of it was begun")

    async def _refuse_taken_key(self, session: Session, opening: Opening) -> None:
        """What moved the session may be the send of that key, from elsewhere: it is answered with that one."""
        if opening.key is not None and await self._ports.log.send_of_key(session.head.session_id, opening.key) is not None:
            raise KeyTaken from None

    def _may_take(self, session: Session, ticket: int | None) -> bool:
        head = session.head
        if head.first_ticket not in (None, ticket):
            return False
        if head.holder is None or head.holder == self._ports.holder or not head.held_at(self._ports.clock.now_ms()):
            return True
        return self._lifeline.is_dead(head.holder)

    async def _enter(self, session: Session, opening: Opening, terms: Callable[[Session], Terms], ticket: int | None) -> Send | None:
        """The send that the opening begins, or goes on with; None where nothing is to be done. Raises `Conflict` when the session moved."""
        state = session.state
        if session.parent is not None and not state.idle and goes_on(opening, session):
            if (goes := await self._unless_forsaken(session.head.session_id, opening)) is None:
                return None
            opening = goes
        send = Send(self._ports, terms(session), session)
        send.key = opening.key
        if not state.idle and not state.open_calls and not state.status:  # cut off where a model is asked
            from power_loop.runtime.ledger import settle_the_dead  # most sends have no ledger

            await settle_the_dead(send)
        if not opening.begin(send):
            return None
        await self._write_opening(send, opening, ticket)
        return send

    async def _write_opening(self, send: Send, opening: Opening, ticket: int | None) -> None:
        """One batch: the lease, what waited, what the verb noted."""
        session = send.session
        self._lifeline.hold()
        epoch = session.head.epoch
        try:
            # Something may come before the word that begins the send, or shape it.
            if session.waiting or session.window.projects or "message.append" in self._ports.hooks.standing:
                await self._prepare(send, opening, ticket)
            elif opening.word is not None:
                send.note(opening.word)
            if may_have_books(send):
                from power_loop.runtime.ledger import keep_books  # most sends have no ledger

                await keep_books(send)
            await (self._write_take(send, ticket) if session.head.epoch == epoch else send.flush())
        except KeyTaken:
            await unhurried(send.flush(release=True))
            raise
        except BaseException as error:
            if session.head.epoch != epoch:
                await self._break_off(send, error)
            raise

    async def _unless_forsaken(self, session_id: str, opening: Opening) -> Opening | None:
        """How a send of a sub-agent goes on: it ends where its call was answered without it, and rests (None) where it was given up."""
        match await self._ports.log.forsaken(session_id):
            case "answered":
                return Forsake(NOBODY_WAITS)
            case "stopped":
                return None
            case None:
                return opening

    async def _prepare(self, send: Send, opening: Opening, ticket: int | None) -> None:
        """What stands before the first words, and these. Handlers that shape them are asked once the session is ours."""
        if send.session.window.projects:
            await migrate(send)
        standing = self._ports.hooks.standing
        shaped = "message.append" in standing or (send.session.waiting and "timer.fire" in standing)
        if shaped:
            await self._write_take(send, ticket)
        if send.session.waiting and opening.hears:
            await send.hear(begins=True)
        if opening.word is not None and shaped:
            await send.say(opening.word)
        elif opening.word is not None:
            send.note(opening.word)

    async def _write_take(self, send: Send, ticket: int | None) -> None:
        head, now = send.session.head, self._ports.clock.now_ms()
        # Only an expired lease may come back to life under its epoch (a late renewal); all else shows in the epoch.
        expired = head.holder is not None and head.holder != self._ports.holder and head.lease_until <= now
        batch = send.take(now, ticket=ticket, bound=now + 1 if expired else FAR)
        try:
            await self._ports.log.append(batch)
        except (asyncio.CancelledError, StoreUnavailable):
            # Whoever is cancelled, or cut off, may have taken the lease all the same; then it is to be given back.
            if await to_its_end(self._was_taken(batch)):
                send.believe(batch)
            raise
        send.believe(batch)

    async def _was_taken(self, batch: Append) -> bool:
        try:
            head = await self._ports.log.look(batch.seen.session_id)
        except PowerLoopError:
            return False
        return (head.holder, head.epoch) == (batch.next.holder, batch.next.epoch)

    # --- the run -----------------------------------------------------------------------------------

    async def _run(self, send: Send, watch: Callable[[Send], Callable[[], None]]) -> None:
        session_id = send.session_id
        self.running[session_id] = send
        if self._stop is not None:  # while it was taken in hand
            send.scope.request(self._stop)
        unwatch = unwatched
        try:
            self._heartbeat.hold(send.session, send.scope)
            unwatch = watch(send)
            await run(send)
        except BaseException as error:
            self.cache.forget(session_id)
            await self._break_off(send, error)
            raise
        finally:
            unwatch()
            self._heartbeat.drop(session_id)
            del self.running[session_id]

    async def _break_off(self, send: Send, error: BaseException) -> None:
        """An exception leaves the send: record how it stands, give the lease back, tell the listeners."""
        if send.session.head.holder is None:  # it is over, written and told; a listener raised at that
            return
        send.teller.break_off(send.terms.scope, send.ports.agent)
        leave_round(send)
        if isinstance(error, asyncio.CancelledError):
            send.teller.say("loop_cancelled", reason="the task was cancelled", round_index=send.teller.round_index)
        else:
            self._tell_error(send, error)
        if isinstance(error, (SessionLeaseLost, KeyboardInterrupt, SystemExit)):
            await to_its_end(keep_unwritten(send))
            send.teller.ended("error")
            return
        try:
            await to_its_end(let_go(send, error))
        except Exception as lost:  # the store's, and the driver's: whoever called hears of the first error, and listeners of the end
            self.owes = True
            log.warning("session %s: the end of a broken send was not recorded: %s", send.session_id, repr(lost))
        send.teller.ended("error" if isinstance(error, Exception) else "cancelled")

    def _tell_error(self, send: Send, error: BaseException) -> None:
        told = described(error)
        send.teller.say("agent_error", error=told["message"], error_type=told["type"], details="", code=told["code"])


def may_have_books(send: Send) -> bool:
    """It has limits, stands below another send, or goes on and others may have charged it. Of a plain send nothing is asked."""
    session = send.session
    if session.parent is not None or send.terms.limits.usage is not None or send.books is not None:
        return not send.ahead.idle
    if len(send.noted) > 1 and isinstance(send.noted[0].record, CallCharged):  # heard just now, of a send that may have had limits
        return True
    return send.send_index == session.head.send_index and bool(session.state.tool_calls or session.state.open_calls)
