"""Sub-agents that wait: where a question is asked, and how those above learn that somebody has answered it.

A parent's call is parked while its sub-agent waits, with a question of its own that names the sub-agent. What is decided
about the sub-agent is told to that question, and so on up to the root; each call then runs again and finds its child.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

from power_loop.contracts.approvals import is_approval, is_for_an_approval
from power_loop.contracts.children import CHILD
from power_loop.contracts.clock import Clock
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.records import Answered
from power_loop.contracts.rows import RUN_PREFIX, SessionKind, SessionRow
from power_loop.contracts.store import SessionLog
from power_loop.runtime.approvals import expired
from power_loop.runtime.approvals_outside import and_below, was_heard
from power_loop.runtime.outcome import interactions
from power_loop.runtime.session import Session


class Tree(SessionLog, Protocol):
    """A store, as far as families of sessions are looked at."""

    @property
    def clock(self) -> Clock: ...

    async def get_session(self, session_id: str) -> SessionRow: ...

    async def list_children(self, session_id: str) -> list[SessionRow]: ...

    async def item_id(self, session_id: str, key: str) -> str: ...


async def home_of(store: Tree, session_id: str, interaction_id: str, key: str | None = None) -> str:
    """The session that asks, or else the one that asked: this one, or one below it; this one when nobody did."""
    asked_once = session_id
    async with aclosing(and_below(store, session_id)) as sessions:
        async for session in sessions:
            if any(asked["interaction_id"] == interaction_id for asked in interactions(session)):
                return session.head.session_id
            if await was_heard(store, session, interaction_id, key):
                asked_once = session.head.session_id
    return asked_once


async def asking(store: Tree, session_id: str, interaction_id: str, key: str | None) -> tuple[str, str]:
    """The session that asks, and its own id of the question; the calls above ask the same under ids of theirs."""
    own = await _named_here(store, session_id, interaction_id)
    return await home_of(store, session_id, own, key), own


async def _named_here(store: Tree, session_id: str, interaction_id: str) -> str:
    """The id under which the session asks what a call above it asks as ``interaction_id``; any other id as it is."""
    parent = (await store.get_session(session_id)).parent_session_id
    asked = waits_for(await Session.load(store, parent), session_id) if parent is not None else None
    if parent is None or asked is None:
        return interaction_id
    named = await _named_here(store, parent, interaction_id)
    return asked["state"]["interaction_id"] if named == asked["interaction_id"] else interaction_id


async def run_above(store: Tree, session_id: str) -> str:
    """The workflow whose leaf this session is, or is a part of: that goes on. Any other session itself."""
    above = session_id
    while not above.startswith(RUN_PREFIX):
        parent = (await store.get_session(above)).parent_session_id
        if parent is None:
            return session_id
        above = parent
    return above


async def wake_above(store: Tree, session_id: str) -> None:
    """Tell the calls above that wait for this session, or for one that waits for it, to look again.

    A session that is gone by now has heard what was said to it, and so nobody waits for it any more.
    """
    with suppress(SessionNotFoundError):
        row = await store.get_session(session_id)
        while row.kind == SessionKind.SUBAGENT and row.parent_session_id is not None:
            parent = await Session.load(store, row.parent_session_id)
            asked = waits_for(parent, row.session_id)
            if asked is None:
                return
            await _look_again(store, row.parent_session_id, asked)
            row = await store.get_session(row.parent_session_id)


async def wake_for_those_below(store: Tree, session_id: str) -> bool:
    """Tell the calls of this session to look again whose sub-agent does not wait any more for what was asked; whether there are any.

    Its time ran out, or who decided was stopped before the calls above were told.
    """
    woken = False
    for asked in await _asked(store, session_id):
        state: Mapping[str, Any] = asked.get("state") or {}
        if CHILD in state:
            await wake_for_those_below(store, state[CHILD])
            if not await _still_asks(store, state[CHILD], state["interaction_id"]):
                woken = await _look_again(store, session_id, asked) or woken
    return woken


async def _still_asks(store: Tree, session_id: str, interaction_id: str) -> bool:
    now, waiting = store.clock.now_ms(), await _asked(store, session_id)
    return any(asked["interaction_id"] == interaction_id and not expired(asked, now) for asked in waiting)


async def _asked(store: Tree, session_id: str) -> list[dict[str, Any]]:
    """What the session waits with; nothing where there is none: a copy may have come without its sub-agents."""
    session = await Session.find(store, session_id)
    return interactions(session) if session is not None else []


async def _look_again(store: Tree, session_id: str, asked: Mapping[str, Any]) -> bool:
    """Have the call that waits with ``asked`` run again; False when somebody has seen to that."""
    told = Answered(asked["interaction_id"], asked["tool_call_id"], None)
    return await store.post(session_id, told, key=f"answer:{asked['interaction_id']}")


def waits_for(parent: Session, child_id: str) -> Mapping[str, Any] | None:
    """The question with which a call of ``parent`` waits for that child."""
    for asked in interactions(parent):
        state: Mapping[str, Any] | None = asked.get("state")
        if state is not None and state.get(CHILD) == child_id:
            return asked
    return None


# --- in a child's name ----------------------------------------------------------------------------


class Below(NamedTuple):
    """What a session below waits for, as its caller asks for it."""

    session_id: str
    interaction_id: str
    kind: str
    prompt: str
    options: Any
    metadata: Mapping[str, Any]
    needs_approval: bool

    @property
    def state(self) -> dict[str, str]:
        """Of the caller's own question, so that its answer finds the way down."""
        return {CHILD: self.session_id, "interaction_id": self.interaction_id}


async def asked_below(loop: Any, session_id: str, who: str) -> Below:
    """The first question of that session; ``who``: whose it is, for whoever reads of an approval."""
    pending: Mapping[str, Any] = await loop.get_pending(session_id) or {}
    questions: list[Mapping[str, Any]] = pending.get("pending_interactions") or [{}]
    asked, approves = questions[0], is_approval(questions[0])
    prompt = str(asked.get("prompt", f"{who} waits."))
    return Below(
        session_id, str(asked.get("interaction_id", "")), "text" if approves else str(asked.get("kind", "text")),
        f"{who} waits for an approval: {prompt}" if approves else prompt, asked.get("options"), asked.get("metadata") or {},
        approves or is_for_an_approval(asked),
    )  # fmt: skip


async def hand_down(loop: Any, state: Mapping[str, Any], answer: Any, key: str) -> None:
    """What was answered to a question with that ``state`` is the child's answer; the same ``key`` again changes nothing."""
    if answer is None or CHILD not in state:
        return  # the child was answered itself
    try:
        await loop.drivers.answer(state[CHILD], state["interaction_id"], answer, key)
    except (ValueError, SessionNotFoundError):
        return  # it was handed down before, somebody answered the child directly, or there is none: the call begins it anew
