"""Deleting: the tree goes by lifecycle, and no row of it is left in any table."""

from __future__ import annotations

import asyncio
from typing import Any

from operating import Place

from power_loop.contracts.store import Statement
from power_loop.store.tables import SCHEMA
from power_loop.testing import hang


async def rows_of(place: Place, session_id: str) -> dict[str, int]:
    """How many rows of the session each table has; looked for in every column that could name it."""
    found: dict[str, int] = {}
    for table in [table for step in SCHEMA.migrations for table in step.tables]:
        owning = [column.name for column in table.columns if column.name in ("session_id", "owner", "parent_session_id")]
        if owning:
            where = " OR ".join(f"{name} = ?" for name in owning)
            found[table.name] = await place.count(f"SELECT COUNT(*) FROM {{p}}{table.name} WHERE {where}", *[session_id] * len(owning))
    return found


async def furnish(place: Place, session_id: str) -> None:
    """A row in every table that knows sessions."""
    store = place.store
    await place.loop("hi").send("hello", session_id, key=f"key of {session_id}")
    await store.set_runtime_state(session_id, "n", 1)
    await store.add_note(session_id, "remember")
    await place.loop().enqueue("later", session_id)
    cells: dict[str, tuple[Any, ...]] = {
        "waiters (session_id, holder, alive_until)": (session_id, "somebody", 1),
        "timers (session_id, status, due_at, anchor_at, created_at, updated_at)": (session_id, "armed", 1, 1, 1, 1),
        "ledgers (ledger_id, session_id, created_at, updated_at)": (f"l{session_id}", session_id, 1, 1),
        "charges (ledger_id, charged_session, seq, session_id, send_index, purpose, created_at)": (
            f"l{session_id}",
            "child",
            1,
            session_id,
            1,
            "round",
            1,
        ),
        "reservations (session_id, call_key, ledger_id, epoch, created_at)": (session_id, "c", "l", 1, 1),
        "late_results (session_id, epoch, outcome, created_at)": (session_id, 1, "ok", 1),
        "jobs (session_id, job_id, kind, status, created_at, updated_at)": (session_id, "j", "command", "done", 1, 1),
        "blobs (session_id, digest, data, size, created_at)": (session_id, "d", b"x", 1, 1),
    }
    batch = [Statement(f"INSERT INTO pl_{into} VALUES ({', '.join('?' * len(values))})", values) for into, values in cells.items()]
    await store.database.write(batch)
    assert 0 not in (await rows_of(place, session_id)).values()


# acceptance: 152
async def test_closing_during_a_send_cancels_it_and_leaves_no_row_of_the_tree(place: Place) -> None:
    store = place.store
    top = await place.loop().new_session(session_id="top")
    await store.create_session(session_id="linked", parent_session_id=top, kind="subagent", lifecycle="linked")
    await store.create_session(session_id="below", parent_session_id="linked", kind="subagent", lifecycle="ephemeral")
    await store.create_session(session_id="other")
    for session_id in ("top", "linked", "below", "other"):
        await furnish(place, session_id)
    loop = place.loop(hang())
    sending = asyncio.create_task(loop.send("wait", top))
    while not (await store.look(top)).holder:
        await asyncio.sleep(0)
    assert await loop.close_session(top) == 3
    assert (await sending).status == "cancelled"
    for session_id in ("top", "linked", "below"):
        assert set((await rows_of(place, session_id)).values()) == {0}, session_id
    assert 0 not in (await rows_of(place, "other")).values()
    await store.close_session("other")


async def test_detached_children_outlive_their_parent_as_roots_with_what_hangs_under_them(place: Place) -> None:
    store = place.store
    await store.create_session(session_id="top")
    await store.create_session(session_id="free", parent_session_id="top", kind="subagent", lifecycle="detached", spawn_tool_call_id="c")
    await store.create_session(session_id="deep", parent_session_id="free", kind="subagent", lifecycle="linked")
    await store.create_session(session_id="bound", parent_session_id="top", kind="subagent", lifecycle="linked")
    assert sorted(await store.close_session_tree("top")) == ["bound", "top"]
    free, deep = await store.get_session("free"), await store.get_session("deep")
    assert (free.kind, free.parent_session_id, free.lifecycle, free.spawn_depth) == ("root", None, None, 0)
    assert (deep.kind, deep.parent_session_id, deep.lifecycle, deep.spawn_depth) == ("subagent", "free", "linked", 1)


async def test_without_cascade_the_children_become_roots(place: Place) -> None:
    store = place.store
    await store.create_session(session_id="top")
    await store.create_session(session_id="kid", parent_session_id="top", kind="subagent", lifecycle="linked")
    assert await store.close_session("top", cascade=False) == 1
    assert ((kid := await store.get_session("kid")).kind, kid.parent_session_id) == ("root", None)
    assert await store.close_session("kid") == 1
