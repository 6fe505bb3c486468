"""What somebody outside of a send says to a call of it: approved, denied, answered, or how a call of unknown outcome came out.

Nothing is driven here. A word is posted to the session's inbox, by compare-and-set against the row that was looked at:
whoever drives the session next, or now, hears it. So one word counts, whoever else decides, answers or cancels.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from power_loop.contracts.approvals import EXPIRED, Approval, is_approval, is_for_an_approval
from power_loop.contracts.clock import Clock
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import ApprovalError, SessionArchivedError, SessionBusyError
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import Decided, Record, ToolReturned
from power_loop.contracts.store import Conflict, SessionLog
from power_loop.kernel.call_keys import key_of
from power_loop.runtime.approvals import expired
from power_loop.runtime.outcome import interactions
from power_loop.runtime.session import Session


class Child(Protocol):
    @property
    def session_id(self) -> str: ...


class Inbox(Protocol):
    async def item_id(self, session_id: str, key: str) -> str: ...


class Asked(SessionLog, Inbox, Protocol):
    """What is asked of a store, beside the log."""

    @property
    def clock(self) -> Clock: ...

    async def list_children(self, session_id: str) -> Sequence[Child]: ...


class Verdict(NamedTuple):
    """What somebody decided about a request."""

    interaction_id: str
    approved: bool
    digest: str
    by: str | None = None
    note: str | None = None


# --- looking --------------------------------------------------------------------------------------------


async def list_approvals(store: Asked, session_id: str, *, tree: bool) -> list[Approval]:
    """What can be decided now, parents first, each session's in the order of its calls."""
    if not tree:
        return await _to_decide(store, await Session.load(store, session_id))
    return [asked async for session in and_below(store, session_id) for asked in await _to_decide(store, session)]


async def and_below(store: Asked, session_id: str) -> AsyncGenerator[Session]:
    """The session and those below it, parents first, without any that ended since it was listed. Raises `SessionNotFoundError`."""
    found = [session_id]
    for one in found:
        session = await (Session.load(store, one) if one == session_id else Session.find(store, one))
        if session is not None:
            yield session
            found += [child.session_id for child in await store.list_children(one)]


async def _to_decide(store: Asked, session: Session) -> list[Approval]:
    now, session_id = store.clock.now_ms(), session.head.session_id
    waits = [_approval(session_id, asked) for asked in interactions(session) if is_approval(asked) and not expired(asked, now)]
    return waits if waits and await store.forsaken(session_id) is None else []


def _approval(session_id: str, asked: Mapping[str, Any]) -> Approval:
    return Approval(
        session_id, asked["interaction_id"], asked["tool_call_id"], asked["tool_name"], asked["arguments"], asked["digest"],
        asked["requested_at"], asked["expires_at"],
    )  # fmt: skip


# --- deciding -------------------------------------------------------------------------------------------


async def decide(store: Asked, session_id: str, verdict: Verdict) -> None:
    """Leave the decision for whoever drives the session, which is the one that asks, next. Raises `ApprovalError`."""

    async def word(session: Session) -> Record:
        asked = next((asked for asked in interactions(session) if asked["interaction_id"] == verdict.interaction_id), None)
        if asked is None or not is_approval(asked) or await store.forsaken(session_id) is not None:
            raise await _too_late(store, session, verdict.interaction_id)
        now = store.clock.now_ms()
        if expired(asked, now):
            raise refused(verdict.interaction_id, "expired")
        if asked["digest"] != verdict.digest:
            raise refused(verdict.interaction_id, "digest")
        return Decided(verdict.interaction_id, asked["tool_call_id"], verdict.approved, verdict.by, verdict.note, verdict.digest, now)

    if not await _post(store, session_id, f"decision:{verdict.interaction_id}", word):
        raise refused(verdict.interaction_id, "decided")


async def _too_late(store: Asked, session: Session, interaction_id: str) -> ApprovalError:
    made = next((made for made in session.state.decisions if made.interaction_id == interaction_id), None)
    if made is not None and made.by is None and made.note == EXPIRED:
        return refused(interaction_id, "expired")
    return refused(interaction_id, "decided" if await was_heard(store, session, interaction_id) else "unknown")


async def was_heard(store: Inbox, session: Session, interaction_id: str, key: str | None = None) -> bool:
    """The session asked this, and somebody has decided, or answered (under this ``key``)."""
    if any(made.interaction_id == interaction_id for made in session.state.decisions):
        return True
    items = (f"decision:{interaction_id}", _answer_item(interaction_id, key))
    return any([await store.item_id(session.head.session_id, item) for item in items])


def _answer_item(interaction_id: str, key: str | None) -> str:
    return f"answer:{interaction_id}" + (f":{key}" if key is not None else "")


REASONS = {
    "decided": "somebody has decided it already; the first decision stands",
    "expired": "the time for a decision has run out; the next resume() tells the model so",
    "digest": "the digest is of another request; list_approvals() shows what waits, with its arguments",
    "unknown": "nothing waits for an approval under this id, here or below; list_approvals() shows what does",
}


def refused(interaction_id: str, reason: str) -> ApprovalError:
    return ApprovalError(f"approval {interaction_id!r}: {REASONS[reason]}", interaction_id=interaction_id, reason=reason)


# --- answering ------------------------------------------------------------------------------------------


async def answer(
    store: Asked, session_id: str, interaction_id: str, as_record: Callable[[Mapping[str, Any]], Record], key: str | None,
    *, given_for: str,
) -> None:  # fmt: skip
    """Leave an answer to the question, as ``as_record(question)`` has it; the same ``key`` again changes nothing.

    ``given_for`` is the id that the caller knows it by: only that one can be recognised once the question is gone.
    Raises `ValueError` when nothing waits for this answer, or waits for an approval.
    """
    item = _answer_item(given_for, key)
    if key is not None and await store.item_id(session_id, item):
        return

    async def word(session: Session) -> Record:
        asked = {asked["interaction_id"]: asked for asked in interactions(session)} if await store.forsaken(session_id) is None else {}
        if interaction_id not in asked:
            waits = sorted(asked) or "nothing"
            raise ValueError(f"session {session_id!r} waits for no answer to {interaction_id!r}; it waits for {waits}")
        if is_approval(asked[interaction_id]) or is_for_an_approval(asked[interaction_id]):
            raise ValueError(f"{interaction_id!r} waits for an approval and not for an answer: use approve() or deny()")
        return as_record(asked[interaction_id])

    if not await _post(store, session_id, item, word) and key is None:
        raise ValueError(f"session {session_id!r}: {interaction_id!r} was answered already")


async def settle(store: Asked, session_id: str, call_id: str, output: Any, failed: bool, is_dead: Callable[[str], bool]) -> None:
    """Say how a call of unknown outcome came out. Raises `ValueError` when the call is none, `SessionBusyError` while it runs."""
    text = output if isinstance(output, str) else dumps(output)

    async def word(session: Session) -> Record:
        call, head = session.state.call(call_id), session.head
        asked = next((asked for asked in interactions(session) if asked["tool_call_id"] == call_id), None)
        if call is None or not (call_id in session.state.started if asked is None else asked.get("kind") == "unknown"):
            raise ValueError(f"session {session_id!r} has no call {call_id!r} whose outcome is unknown; get_pending() shows those it has")
        if asked is None and head.held_at(store.clock.now_ms()) and not is_dead(head.holder or ""):
            raise SessionBusyError(session_id, holder=head.holder, expires_at=head.lease_until)
        return ToolReturned(call_id, text, "failed" if failed else "ok", call.name, ran=False)

    session = await Session.load(store, session_id)
    call = session.state.call(call_id) or ToolCall(call_id, "", "{}")
    key = f"settled:{key_of(session_id, session.head.send_index, session.state, call)}"
    if not await _post(store, session_id, key, word):
        raise ValueError(f"the call {call_id!r} of session {session_id!r} was settled already")


async def _post(store: Asked, session_id: str, key: str, word: Callable[[Session], Awaitable[Record]]) -> bool:
    """Post what ``word`` says of the session as it is, unless it moved meanwhile: then look again. False when ``key`` was taken."""
    while True:
        session = await Session.load(store, session_id)
        if session.head.archived:
            raise SessionArchivedError(session_id)
        record = await word(session)
        try:
            return await store.post(session_id, record, key=key, unmoved=session.head)
        except Conflict:
            continue
