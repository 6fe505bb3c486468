"""What version 41 adds: the lines of a ledger. Released, it is never edited."""

from __future__ import annotations

from power_loop.store.schema import Column, Index, Migration, Table

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

SECOND = Migration(41, "lines of a ledger", tables=(CHARGES,))
