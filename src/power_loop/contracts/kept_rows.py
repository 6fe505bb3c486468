"""The rows of what a session keeps beside its messages: timers, notes, folds, projections, usage, background work."""

from __future__ import annotations

from typing import Any, NamedTuple


class TimerRow(NamedTuple):
    """A note that reaches its session at a time; times in ms, ``due_at`` is the next one."""

    session_id: str
    timer_id: int
    due_at: int
    note: str
    status: str
    """``armed``, ``fired`` or ``cancelled``."""
    interval_s: float | None
    fire_count: int
    last_fired_at: int | None
    created_at: int
    updated_at: int
    cron: str | None = None
    tz: str = "UTC"


class NoteRow(NamedTuple):
    """Something that the agent wants to remember in this session."""

    session_id: str
    note_id: int
    content: str
    pinned: bool
    created_at: int
    updated_at: int


class ProjectMessageRow(NamedTuple):
    """One row of how a finished send is shown in projection mode."""

    session_id: str
    send_index: int
    kind: str
    content: Any
    rendered_text: str | None
    source_seq_lo: int
    source_seq_hi: int
    compact_from_send: int | None
    compact_to_send: int | None
    projector_version: int
    token_estimate: int
    created_at: int


class CompactionRow(NamedTuple):
    """One fold: which records it covers, and what it brought."""

    session_id: str
    compact_seq: int
    note_seq: int
    from_seq: int
    to_seq: int
    before_tokens: int
    after_tokens: int
    round_index: int | None
    created_at: int


class BackgroundTaskRow(NamedTuple):
    """A command that runs beside the session."""

    session_id: str
    task_id: str
    command: str | None
    status: str
    return_code: int | None
    output_tail: str | None
    output_path: str | None
    created_at: int
    updated_at: int


class UsageRow(NamedTuple):
    """What one model call used."""

    seq: int
    send_index: int
    round_index: int | None
    purpose: str
    prompt_tokens: int
    completion_tokens: int
    cache_read_tokens: int
    cost: float | None
    model: str | None
    estimated: bool
