"""What ``--allow-actions`` lets a person do: answer a question, decide on an approval.

Both leave a word in the session's inbox, as any process may; no model is called from here. Whoever drives the session next
(a `Worker`, a `resume`) goes on with it.
"""

from __future__ import annotations

from typing import cast

from power_loop.inspector.timeline import Json
from power_loop.loop import StatefulAgentLoop
from power_loop.verbs import Verbs

BY = "inspector"


class Actions:
    """Decisions of the person at the screen."""

    def __init__(self, loop: StatefulAgentLoop) -> None:
        self._loop = loop
        self._verbs = cast("Verbs", loop.drivers)  # the facade shows less of them

    async def decide(self, told: Json) -> Json:
        """``{session_id, interaction_id, approved, digest, note}`` or ``{session_id, interaction_id, answer}``. Raises `ValueError`.

        Who denies need not have seen all of what it is, and may leave the digest out.
        """
        session_id, interaction_id = _text(told, "session_id"), _text(told, "interaction_id")
        if "answer" in told:
            await self._verbs.answer(session_id, interaction_id, told["answer"], None)
        else:
            approved = told.get("approved") is True
            verb = self._loop.approve if approved else self._loop.deny
            note = _text(told, "note") if told.get("note") else None
            named = approved or told.get("digest") is not None
            digest = _text(told, "digest") if named else await self._digest_of(session_id, interaction_id)
            await verb(session_id, interaction_id, digest=digest, by=BY, note=note)
        return {"done": True}

    async def _digest_of(self, session_id: str, interaction_id: str) -> str:
        for waits in await self._loop.list_approvals(session_id):
            if waits.interaction_id == interaction_id:
                return waits.digest
        raise ValueError(f"session {session_id!r} waits for no approval {interaction_id!r}")


def _text(told: Json, name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}; it must be text")
    return value
