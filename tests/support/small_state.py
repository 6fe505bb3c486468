"""Batches on the table of small state, for claims about an engine and not about sessions."""

from __future__ import annotations

import pytest

from power_loop.contracts.store import Statement


def put(key, value="x", version=0):
    columns = "owner, state_key, value, version, created_at, updated_at"
    return Statement(f"INSERT INTO pl_state ({columns}) VALUES (?, ?, ?, ?, 0, 0)", ("o", key, value, version), 1)


def change(key, value):
    return Statement("UPDATE pl_state SET value = ? WHERE owner = 'o' AND state_key = ?", (value, key), 1)


async def values(database):
    return dict(await database.read("SELECT state_key, value FROM pl_state"))


async def told(kind, work):
    """The text of the error that ``work`` raises."""
    with pytest.raises(kind) as raised:
        await work
    return str(raised.value)
