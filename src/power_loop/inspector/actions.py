"""What ``--allow-actions`` lets a person do: answer a question, decide on an approval.

Both leave a word in the session's inbox, as any process may; no model is called from here. Whoever drives the session next
(a `Worker`, a `resume`) goes on with it.
"""

from __future__ import annotations

from typing import Any

from power_loop.inspector.timeline import Json
from power_loop.loop import StatefulAgentLoop
from power_loop.store.sql_store import SessionStore
from power_loop.verbs import answer_to

BY = "inspector"


class Actions:
    """Decisions of the person at the screen."""

    def __init__(self, loop: StatefulAgentLoop, store: SessionStore) -> None:
        self._loop, self._store = loop, store

    async def decide(self, told: Json) -> Json:
        """``{session_id, interaction_id, approved, digest, note}`` or ``{session_id, interaction_id, answer}``. Raises `ValueError`."""
        session_id, interaction_id = _text(told, "session_id"), _text(told, "interaction_id")
        if "answer" in told:
            await self._answer(session_id, interaction_id, told["answer"])
        else:
            verb = self._loop.approve if told.get("approved") is True else self._loop.deny
            await verb(session_id, interaction_id, digest=_text(told, "digest"), by=BY, note=told.get("note") or None)
        return {"done": True}

    async def _answer(self, session_id: str, interaction_id: str, value: Any) -> None:
        pending = await self._loop.get_pending(session_id)
        asked = {one["interaction_id"]: one for one in (pending or {}).get("pending_interactions", ())}
        if interaction_id not in asked:
            raise ValueError(f"session {session_id!r} waits for no answer to {interaction_id!r} any more")
        await self._loop.drivers.post(session_id, answer_to(asked[interaction_id], value), f"answer:{interaction_id}")


def _text(told: Json, name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}; it must be text")
    return value
