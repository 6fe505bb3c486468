"""Giving a session back in the middle of a send: what it came to so far, in words that the database takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.errors import SessionLeaseLost, StoreRefused, StoreUnavailable
from power_loop.contracts.outcome import described
from power_loop.contracts.records import CallCharged, ModelReplied, Record, SendEnded, SendRested, StopRequested, ToolReturned, ToolStarted
from power_loop.contracts.store import Conflict
from power_loop.kernel.state import State
from power_loop.runtime.noted import MAX_CONFLICTS, Posts
from power_loop.runtime.send import Send

LOST = "[It ran, but what it gave is lost, with all that it left for others: the database does not take it ({why})]"
NOT_RUN = "[What came of it is lost: the database does not take it ({why})]"
# Every database takes a text of so many characters, if they are ASCII.
FITS_CHARS = 4_000


async def let_go(send: Send, cause: BaseException) -> None:
    """Give the lease back, with ``cause`` as the last word of a send that is not over; nothing more is heard.

    What the database refuses is told in short. Raises what the store raises.
    """
    await _catch_up(send)
    # Nobody was told of this end, and it may not be one; and no call begins before its mark is written.
    while send.noted and isinstance(send.noted[-1].record, (SendEnded, ToolStarted)):
        send.take_back_last()
    error = described(cause) if isinstance(cause, Exception) else None
    try:
        await _release(send, error)
    except Exception as refusal:  # of the driver, for a value that it cannot bind; and of the store
        if not send.noted or not _is_about_the_batch(refusal):
            raise
        await _note_in_short(send, _short(str(refusal)))
        await _release(send, error and {**error, "message": _short(error["message"])})


async def _release(send: Send, error: Mapping[str, Any] | None) -> None:
    """``error`` is None where the send was interrupted."""
    if send.session.head.holder is not None and not send.ahead.idle:
        send.note(_last_word(error, send.ahead))
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


def _last_word(error: Mapping[str, Any] | None, state: State) -> Record:
    if error is None:
        return SendRested("interrupted")
    return SendRested("failed", error) if state.open_calls else SendEnded("failed", "", error)


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


async def _note_in_short(send: Send, why: str) -> None:
    """Note anew what was noted, of it only what certainly fits, and nothing that rides along. What was heard waits on."""
    heard = [item.record for item in await send.ports.log.inbox(send.session_id) if item.item_id in send.heard] if send.heard else []
    noted, head, posts = send.noted, send.session.head, send.posts
    if send.send_index != head.send_index:  # what began the send is not there: nor is its ledger, and its key is free
        send.books = send.key = None
    send.noted, send.heard, send.timers, send.seen_jobs, send.posts, send.ahead = [], [], (), (), {}, noted[0].before
    send.send_index, send.send_seq, send.fold_seq, send.fold_through = head.send_index, head.send_seq, head.fold_seq, head.fold_through
    for each in noted:
        send.teller.forget(each.record)
    for record in [each.record for each in noted if not _came_with(heard, each.record)]:
        if (short := _in_short(record, posts, why)) is not None:
            send.note(short)


def _came_with(heard: Sequence[Record], record: Record) -> bool:
    """It is what somebody left in the inbox, or came of that."""
    answered = {getattr(each, "call_id", None) for each in heard}  # only answers and decisions have one
    return record in heard or (isinstance(record, ToolReturned) and record.call_id in answered)


def _in_short(record: Record, posts: Posts, why: str) -> Record | None:
    """A reply is what it cost, a long result that it is lost; words, questions and summaries are not there yet."""
    match record:
        case ModelReplied(usage=usage) if usage.calls:
            return CallCharged(record.purpose, usage, StoreRefused.__name__, record.model)
        case ToolReturned(output=str(output)) if _fits(output) and record.call_id not in posts:
            return record._replace(data=None)
        case ToolReturned():
            return record._replace(output=(LOST if record.ran else NOT_RUN).format(why=why), data=None)
        case CallCharged() | StopRequested():
            return record
        case _:
            return None


def _fits(text: str) -> bool:
    return len(text) <= FITS_CHARS and text.isascii() and "\0" not in text


def _short(text: str) -> str:
    return text[:300].encode("ascii", "replace").decode().replace("\0", "?")
