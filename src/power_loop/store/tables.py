"""The tables of version 40, as data. Released, it is never edited: what comes later is a migration of its own.

Names avoid the reserved words of every engine, so that no statement has to quote one. The second half (`timers`
to `blobs`) belongs to features above the session log; it is part of the first version so that no database
needs a migration for them.
"""

from __future__ import annotations

from power_loop.store.schema import FIRST_VERSION, VERSIONS, Column, Index, Migration, Schema, Table, View
from power_loop.store.tables_41 import SECOND


def _key(name: str, *, null: bool = False) -> Column:
    return Column(name, "key", null)


def _text(name: str) -> Column:
    return Column(name, "text", null=True)


def _int(name: str) -> Column:
    return Column(name, "int", default=0)


def _big(name: str) -> Column:
    return Column(name, "big", default=0)


def _maybe(name: str) -> Column:
    return Column(name, "big", null=True)


SCHEMA_MIGRATIONS = Table(VERSIONS, (Column("id", "int"), Column("version", "int")), key=("id",))

# --- the session log -------------------------------------------------------------------------

# Rewritten by every commit, so it holds numbers and short names only: a long prompt here made commits six times dearer.
SESSIONS = Table(
    "sessions",
    (
        _key("session_id"),
        _big("head"),
        _big("epoch"),
        _key("holder", null=True),
        _big("lease_until"),
        _big("wake_no"),
        _maybe("runnable_at"),  # when a worker should look; None: nothing waits
        _key("claim", null=True),  # the token of the worker that looks after it, until the lease is taken
        _big("claimed_until"),
        _int("attempts"),  # how often workers tried the last send in vain
        _int("takeovers"),
        _key("agent", null=True),
        _int("status"),  # 0 active, 1 archived
        _big("send_index"),
        _big("send_seq"),
        _big("fold_seq"),
        _big("fold_through"),
        _big("sends"),
        _big("rounds"),
        _big("llm_calls"),
        _big("tool_calls"),
        _big("prompt_tokens"),
        _big("completion_tokens"),
        Column("cost", "real", default=0),
        _key("last_batch", null=True),
        _maybe("first_send_at"),
        _maybe("last_send_at"),
        _big("created_at"),
        _big("updated_at"),
    ),
    key=("session_id",),
    indexes=(
        Index("sessions_runnable", ("runnable_at",), "runnable_at IS NOT NULL"),
        Index("sessions_claim", ("claim",), "claim IS NOT NULL"),
    ),
    thin=True,
)

SESSION_INFO = Table(
    "session_info",
    (
        _key("session_id"),
        _text("system_prompt"),
        _text("model"),
        _text("config"),
        _text("metadata"),
        _key("kind", null=True),
        _key("lifecycle", null=True),
        _key("parent_session_id", null=True),
        _text("spawn_tool_call_id"),
        _int("spawn_depth"),
    ),
    key=("session_id",),
    indexes=(Index("session_info_parent", ("parent_session_id",), "parent_session_id IS NOT NULL"),),
)

RECORDS = Table(
    "records",
    (
        _key("session_id"),
        Column("seq", "big"),
        Column("epoch", "big"),
        _maybe("take_id"),
        _key("kind"),
        Column("version", "int"),
        Column("send_index", "big"),
        Column("round_index", "int", null=True),
        _key("role", null=True),
        _text("name"),
        _text("content"),
        Column("escaped", "int", null=True),
        _text("tool_calls"),
        _text("call_id"),
        Column("call_index", "int", null=True),
        _text("body"),
        Column("created_at", "big"),
    ),
    key=("session_id", "seq"),
)

INBOX = Table(
    "inbox",
    (
        Column("item_id", "auto"),
        _key("session_id"),
        _key("item_key"),
        _key("mode"),
        _key("kind"),
        Column("version", "int"),
        _text("name"),
        _text("content"),
        Column("escaped", "int", null=True),
        _text("call_id"),
        _text("body"),
        Column("created_at", "big"),
        _maybe("not_before"),  # ms; not heard earlier
        _maybe("heard_seq"),
    ),
    key=("item_id",),
    unique=(("session_id", "item_key"),),
    indexes=(Index("inbox_waiting", ("session_id", "item_id"), "heard_seq IS NULL"),),
)

WAITERS = Table(
    "waiters",
    (Column("ticket", "auto"), _key("session_id"), _key("holder"), Column("alive_until", "big")),
    key=("ticket",),
    indexes=(Index("waiters_session", ("session_id", "ticket")),),
)

SEND_KEYS = Table(
    "send_keys",
    (_key("session_id"), _key("send_key"), Column("send_index", "big"), Column("seq", "big"), Column("created_at", "big")),
    key=("session_id", "send_key"),
    thin=True,
)

# --- what later features keep ------------------------------------------------------------------

TIMERS = Table(
    "timers",
    (
        Column("timer_id", "auto"),
        _key("session_id"),
        _key("status"),
        Column("due_at", "big"),
        Column("anchor_at", "big"),  # the nominal time that recurrence counts from
        _text("note"),
        _maybe("interval_ms"),
        _text("cron"),
        _key("tz", null=True),
        _big("fire_count"),
        _maybe("last_fired_at"),
        _key("claim", null=True),  # who takes a due row stamps a fresh token on it, then reads by token
        _big("claimed_until"),
        _text("body"),
        Column("created_at", "big"),
        Column("updated_at", "big"),
    ),
    key=("timer_id",),
    indexes=(
        Index("timers_due", ("status", "due_at", "timer_id")),
        Index("timers_session", ("session_id",)),
        Index("timers_claim", ("claim",), "claim IS NOT NULL"),
    ),
)

# Notes, todos, boards, small state: one JSON value under (owner, state_key), changed by compare-and-set on ``version``.
STATE = Table(
    "state",
    (
        _key("owner"),
        _key("state_key"),
        _text("value"),
        _big("version"),
        Column("created_at", "big"),
        Column("updated_at", "big"),
    ),
    key=("owner", "state_key"),
)

LEDGERS = Table(
    "ledgers",
    (
        _key("ledger_id"),
        _key("session_id"),
        _big("send_index"),
        _text("limits"),
        _big("requests"),
        _big("tool_calls"),
        _big("input_tokens"),
        _big("output_tokens"),
        Column("cost", "real", default=0),
        _big("version"),
        Column("created_at", "big"),
        Column("updated_at", "big"),
    ),
    key=("ledger_id",),
    indexes=(Index("ledgers_session", ("session_id",)),),
)

# Written in the batch before a model call, so that a crash in the call leaves what it may have cost.
RESERVATIONS = Table(
    "reservations",
    (
        _key("session_id"),
        _key("call_key"),
        _key("ledger_id"),
        Column("epoch", "big"),
        _big("input_tokens"),
        _big("output_tokens"),
        Column("cost", "real", default=0),
        Column("created_at", "big"),
    ),
    key=("session_id", "call_key"),
    indexes=(Index("reservations_ledger", ("ledger_id",)),),
)

# Results of tools whose session was taken over meanwhile: evidence for the call, not part of the transcript.
LATE_RESULTS = Table(
    "late_results",
    (
        Column("late_id", "auto"),
        _key("session_id"),
        _big("send_index"),
        _text("call_id"),
        _key("call_key", null=True),
        Column("epoch", "big"),
        _key("outcome"),
        _text("content"),
        Column("escaped", "int", null=True),
        _text("body"),
        Column("created_at", "big"),
    ),
    key=("late_id",),
    indexes=(Index("late_results_session", ("session_id", "late_id")),),
)

JOBS = Table(
    "jobs",
    (
        _key("session_id"),
        _key("job_id"),
        _key("kind"),
        _key("status"),
        _text("command"),
        Column("return_code", "int", null=True),
        _text("output_tail"),
        _text("output_path"),
        _key("holder", null=True),
        _text("body"),
        Column("created_at", "big"),
        Column("updated_at", "big"),
    ),
    key=("session_id", "job_id"),
)

BLOBS = Table(
    "blobs",
    (_key("session_id"), _key("digest"), Column("data", "blob"), Column("size", "big"), _text("media_type"), Column("created_at", "big")),
    key=("session_id", "digest"),
)

# --- for anyone with SQL -------------------------------------------------------------------------

# No view parses JSON: on PostgreSQL one value that cannot be parsed makes the whole view unreadable.
MESSAGES = View(
    "messages",
    "SELECT session_id, seq, role, name, content, escaped, tool_calls, call_id AS tool_call_id, send_index, round_index, created_at "
    "FROM {p}records WHERE role IS NOT NULL",
)
PROJECT_MESSAGES = View(
    "project_messages",
    "SELECT session_id, seq, send_index, version, body, created_at FROM {p}records WHERE kind = 'send_projected'",
)

FIRST = Migration(
    FIRST_VERSION,
    "first",
    tables=(
        SCHEMA_MIGRATIONS, SESSIONS, SESSION_INFO, RECORDS, INBOX, WAITERS, SEND_KEYS,
        TIMERS, STATE, LEDGERS, RESERVATIONS, LATE_RESULTS, JOBS, BLOBS,
    ),
    views=(MESSAGES, PROJECT_MESSAGES),
)  # fmt: skip

SCHEMA = Schema((FIRST, SECOND))
