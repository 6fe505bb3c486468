"""What the door offers of sessions at rest: making them, looking at them, what belongs to them. Sends are in `loop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from power_loop.contracts.diagnosis import Diagnosis
    from power_loop.contracts.jobs import Job
    from power_loop.contracts.kept_rows import TimerRow
    from power_loop.contracts.rows import SessionStatsRow
    from power_loop.store.sql_store import SessionStore
    from power_loop.verbs import Verbs


class SessionVerbs:
    """The half of `StatefulAgentLoop` that calls no model."""

    name: str
    _verbs: Verbs

    async def ensure_store(self) -> SessionStore:
        """Open the owned store; concurrent callers share one opening. Raises what `open_store` raises."""
        return (await self._verbs.open())[0]

    async def new_session(
        self, *, metadata: Mapping[str, Any] | None = None, system_prompt: str | None = None, session_id: str | None = None
    ) -> str:
        """A new session; its id. No model is called. Only a prompt that is given here is stored."""
        store = await self.ensure_store()
        return await store.create_session(metadata=metadata, system_prompt=system_prompt, session_id=session_id, agent=self.name)

    async def prewarm(self, session_id: str) -> bool:
        """Load what is derived of a session; False for an unknown id. Changes nothing but the time of the next send."""
        return await self._verbs.prewarm(session_id)

    async def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Cancel what runs, then delete the session and (``cascade``) its children; how many are gone."""
        return await self._verbs.close_session(session_id, cascade=cascade)

    async def get_messages(self, session_id: str, *, include_compacted: bool = False) -> list[dict[str, Any]]:
        """The messages in logical order: role, content, tool_calls, tool_call_id, name."""
        return await self._verbs.messages(session_id, include_compacted=include_compacted)

    async def get_pending(self, session_id: str) -> dict[str, Any] | None:
        """What waits for a result: the calls, the questions, the calls of unknown outcome; None when nothing does."""
        return await self._verbs.pending(session_id)

    async def resolve_system_prompt(self, *, session_id: str | None = None) -> str:
        """The exact system text of the next send without overrides."""
        store = await self.ensure_store()
        own = (await store.get_session(session_id)).system_prompt if session_id is not None else None
        return await self._verbs.system_text(own)

    async def fork(
        self, session_id: str, *, at_send: int | None = None, metadata: Mapping[str, Any] | None = None, system_prompt: str | None = None
    ) -> str:
        """A new root session with the records up to the end of that send (None: the last finished one); its id.

        Timers, inbox and lease stay behind. The two lives are independent from there on.
        """
        store = await self.ensure_store()
        return await store.fork_session(session_id, at_send=at_send, metadata=metadata, system_prompt=system_prompt)

    async def doctor(self, session_id: str, *, repair: bool = False) -> Diagnosis:
        """What is the matter with a session, what `resume` would run and what not; ``repair`` puts right what needs nobody's judgement.

        A repair adds records, under the lease; nothing is deleted. Raises `SessionNotFoundError`, and for a repair
        `SessionBusyError` or `SessionArchivedError`.
        """
        return await self._verbs.doctor(session_id, repair=repair)

    async def list_jobs(self, session_id: str) -> list[Job]:
        """What runs, or ran, beside the session: commands in the background, sub-agents and workflows. Oldest first.

        Raises `SessionNotFoundError`.
        """
        return await self._verbs.list_jobs(session_id)

    async def stop_job(self, session_id: str, job_id: str, *, reason: str = "stopped") -> bool:
        """Have a job of the session end, in whatever process it runs; False when it is over already. Raises `SessionNotFoundError`."""
        return await self._verbs.stop_job(session_id, job_id, reason)

    async def get_session_stats(self, session_id: str, *, tree: bool = False) -> SessionStatsRow | None:
        """The counters of a session; None before its first finished send.

        ``tree``: calls, tokens and cost with those of its sub-agents, also of such that are deleted.
        """
        return await self._verbs.session_stats(session_id, tree=tree)

    async def budget(self, session_id: str) -> dict[str, Any]:
        """What the session's last send has spent, with all that it set going.

        ``spent`` and ``reserved`` (by model calls under way), each under the names of the ``limits``; and
        ``by_session``, ``by_model``, ``by_purpose``. A sub-agent's is its parent's while that is under way.
        Raises `SessionNotFoundError`.
        """
        return await self._verbs.budget(session_id)

    async def list_session_stats(self) -> list[SessionStatsRow]:
        """The counters of all sessions, most recently active first."""
        return await (await self.ensure_store()).list_session_stats()

    # --- timers ---------------------------------------------------------------------------------

    async def schedule_timer(
        self,
        session_id: str,
        *,
        delay_s: float | None = None,
        due_at_ms: int | None = None,
        note: str,
        interval_s: float | None = None,
        cron: str | None = None,
        tz: str = "UTC",
    ) -> TimerRow:
        """Have the session hear ``note`` later: after a delay, at a time (UTC), or whenever ``cron`` names a time of the zone ``tz``.

        ``interval_s``: again and again, counted from the first time. Nothing fires without a `TimerRunner`, a `Worker` or
        `SessionStore.fire_due`. Raises `ValueError`, `SessionNotFoundError`, and `ImportError` without the extra ``cron``.
        """
        return await self._verbs.schedule_timer(session_id, delay_s, due_at_ms, note, interval_s, cron, tz)

    async def cancel_timer(self, session_id: str, timer_id: int) -> bool:
        """Take back an armed timer; False when it is not armed (any more)."""
        return await self._verbs.cancel_timer(session_id, timer_id)

    async def list_timers(self, session_id: str) -> list[TimerRow]:
        """The armed timers of the session, soonest first."""
        return await self._verbs.list_timers(session_id)
