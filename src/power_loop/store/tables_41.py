"""What version 41 adds: the lines of a ledger, and which send a projection shows. Released, it is never edited."""

from __future__ import annotations

from power_loop.store.schema import Column, Index, Migration, Table, View

# One line for each model call that was charged to a ledger. They belong to the session whose send the ledger stands for, so
# they outlive a sub-agent that is deleted.
CHARGES = Table(
    "charges",
    (
        Column("ledger_id", "key"),
        Column("charged_session", "key"),
        Column("seq", "big"),  # of the record that says what the call cost
        Column("session_id", "key"),
        Column("send_index", "big"),
        Column("purpose", "key"),
        Column("model", "text", null=True),
        Column("input_tokens", "big", default=0),
        Column("output_tokens", "big", default=0),
        Column("cache_read_tokens", "big", default=0),
        Column("cache_write_tokens", "big", default=0),
        Column("reasoning_tokens", "big", default=0),
        Column("calls", "big", default=0),
        Column("cost", "real", null=True),
        Column("estimated", "int", default=0),
        Column("created_at", "big"),
    ),
    key=("ledger_id", "charged_session", "seq"),
    indexes=(Index("charges_session", ("session_id",)),),
)

# A projection is written with a later send's rows; the one that it shows stands in columns of its own.
PROJECT_MESSAGES = View(
    "project_messages",
    "SELECT session_id, seq, call_index AS send_index, name AS kind, version, body, created_at "
    "FROM {p}records WHERE kind = 'send_projected'",
)

SECOND = Migration(41, "lines of a ledger", tables=(CHARGES,), views=(PROJECT_MESSAGES,))
