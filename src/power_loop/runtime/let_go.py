"""Giving a session back in the middle of a send: what it came to so far, in words that the database takes."""

from __future__ import annotations

from collections.abc import Iterator

from power_loop.contracts.errors import SessionLeaseLost, StoreRefused, StoreUnavailable
from power_loop.contracts.outcome import described
from power_loop.contracts.records import CallCharged, ModelReplied, Record, SendEnded, SendRested, StopRequested, ToolReturned
from power_loop.contracts.store import Conflict
from power_loop.kernel.state import State
from power_loop.runtime.noted import MAX_CONFLICTS
from power_loop.runtime.send import Send

LOST = "[It ran, but what it gave is lost: the database does not take it ({why:.300})]"


async def let_go(send: Send, cause: BaseException) -> None:
    """Give the lease back, with ``cause`` as the last word of a send that is not over; nothing more is heard.

    What the database refuses is told in short. Raises what the store raises.
    """
    await _catch_up(send)
    if send.noted and isinstance(send.noted[-1].record, SendEnded):  # nobody was told of this end, and it may not be one
        send.take_back_last()
    refused = bool(send.noted)
    try:
        await _release(send, cause)
    except Exception as error:  # of the driver, for a value that it cannot bind; and of the store
        if not refused or not _is_about_the_batch(error):
            raise
        _note_in_short(send, str(error))
        await _release(send, cause)


async def _release(send: Send, cause: BaseException) -> None:
    if send.session.head.holder is not None and not send.ahead.idle:
        send.note(_last_word(cause, send.ahead))
    for _ in range(MAX_CONFLICTS):
        if send.session.head.holder is None:
            send.teller.flush()
            return
        batch = send.batch(release=True)
        try:
            await send.ports.log.append(batch)
        except Conflict:
            await _catch_up(send)
        else:
            send.believe(batch)
            return


def _last_word(cause: BaseException, state: State) -> Record:
    if not isinstance(cause, Exception):
        return SendRested("interrupted")
    return SendRested("failed", described(cause)) if state.open_calls else SendEnded("failed", "", described(cause))


async def _catch_up(send: Send) -> None:
    """Believe what was written although a cancel (or an error) hid it: under our epoch nobody else writes."""
    head, seen = await send.ports.log.look(send.session_id), send.session.head
    if head.epoch != seen.epoch:
        raise SessionLeaseLost(send.session_id, epoch=seen.epoch)
    written, rest = send.noted[: head.head - seen.head], send.noted[head.head - seen.head :]
    send.session.believe(head, [noted.row for noted in written], rest[0].before if rest else send.ahead)
    send.noted = rest if head.holder is not None else []
    if send.books is not None and written:
        send.books.caught_up()
    send.key = None if written else send.key
    waiting = {item.item_id for item in await send.ports.log.inbox(send.session_id)} if send.heard else set[int]()
    send.heard = [item for item in send.heard if item in waiting]
    send.timers = send.timers if send.heard else ()


def _is_about_the_batch(error: Exception) -> bool:
    """Another batch may be taken."""
    return isinstance(error, StoreRefused) or not isinstance(error, (StoreUnavailable, SessionLeaseLost, Conflict))


def _note_in_short(send: Send, why: str) -> None:
    """Note anew what was noted, of it only what certainly fits. What was heard waits on."""
    noted, head = send.noted, send.session.head
    send.noted, send.heard, send.timers, send.ahead = [], [], (), noted[0].before
    send.send_index, send.send_seq, send.fold_seq, send.fold_through = head.send_index, head.send_seq, head.fold_seq, head.fold_through
    for each in noted:
        send.teller.forget(each.record)
    for record in _in_short([each.record for each in noted], why):
        send.note(record)


def _in_short(records: list[Record], why: str) -> Iterator[Record]:
    """A reply is what it cost, a result that it is lost; words, questions and summaries are not there yet."""
    for record in records:
        match record:
            case ModelReplied(usage=usage) if usage.calls:
                yield CallCharged(record.purpose, usage, StoreRefused.__name__, record.model)
            case ToolReturned():
                yield record._replace(output=LOST.format(why=why), data=None)
            case CallCharged() | StopRequested():
                yield record
            case _:
                continue
