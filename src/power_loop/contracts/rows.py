"""The rows that a host reads from a store."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from power_loop.contracts.messages import Content


class SessionStatus(StrEnum):
    """Whether a session takes sends."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class SessionKind(StrEnum):
    """What a session is part of."""

    ROOT = "root"
    SUBAGENT = "subagent"
    WORKFLOW = "workflow"


RUN_PREFIX = "wf_"
"""Run ids are chance, so the session of a run is found by its id, and told from others by its name alone."""


class SubagentLifecycle(StrEnum):
    """What becomes of a child's session: gone with its result, gone with its parent, or on its own."""

    EPHEMERAL = "ephemeral"
    LINKED = "linked"
    DETACHED = "detached"


class MessageState(StrEnum):
    """How a stored message is shown: as it is, through a fold, or not at all."""

    ACTIVE = "active"
    COMPACTED_OUT = "compacted_out"
    DROPPED = "dropped"


class SessionRow(NamedTuple):
    """One session, without its records."""

    session_id: str
    created_at: int
    updated_at: int
    system_prompt: str | None
    model: str | None
    config: Mapping[str, Any] | None
    status: str
    kind: str
    parent_session_id: str | None
    spawn_tool_call_id: str | None
    spawn_depth: int
    lifecycle: str | None
    metadata: Mapping[str, Any]


class MessageRow(NamedTuple):
    """One message as stored; ``seq`` is its record's."""

    session_id: str
    seq: int
    role: str
    name: str | None
    content: Content
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    round_index: int | None
    state: str
    meta: Mapping[str, Any]
    created_at: int
    send_index: int


class SessionStatsRow(NamedTuple):
    """The counters of one session, each changed in the batch of the record it counts; times in ms."""

    session_id: str
    sends: int
    rounds: int
    llm_calls: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    first_send_at: int
    last_send_at: int
    updated_at: int
    cost: float | None = None


def takes_no_words(session_id: str) -> ValueError:
    """The error for whoever speaks to a session that is a run of a workflow."""
    return ValueError(f"session {session_id!r} is a run of a workflow and takes no words: resume it, answer it, or cancel it")
