"""What `doctor` says of a session: where it stands, what is in its way, and what would put it right."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that a person should know."""

    code: str
    """``open_call``, ``unknown_call``, ``parked_call``, ``expired_approval``, ``interrupted_send``, ``lease_held``,
    ``lease_stale``, ``inbox_waiting``, ``timer_overdue``, ``over_budget``, ``context_too_long``, ``invalid_import``,
    ``poisoned`` or ``orphan_worker``."""
    text: str
    """What happened, and what a resume would do with it, or not do."""
    call_id: str | None = None
    fix: str = ""
    """What to do."""
    automatic: bool = False
    """``repair=True`` does it."""


class Diagnosis(NamedTuple):
    """A session as it was found; with ``repair=True`` as it was left."""

    session_id: str
    state: str
    """``idle``, ``running``, ``waiting``, ``pending``, ``interrupted``, ``poisoned`` or ``archived``."""
    findings: tuple[Finding, ...] = ()
