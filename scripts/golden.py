"""The golden database of the present schema version: every table's rows as JSON, for any engine.

``python scripts/golden.py --write`` makes ``tests/operations/golden/<version>.json``. Once a version is released its
file is never written again: it stands for the databases that people have. The same script makes the same file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    ContextFolded,
    ModelReplied,
    Record,
    SendEnded,
    SendRested,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import Statement
from power_loop.contracts.usage import CallUsage
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.store.tables import SCHEMA
from power_loop.testing.clock import ManualClock, SeededIds
from power_loop.testing.hand import Hand

FOLDER = Path(__file__).parent.parent / "tests" / "operations" / "golden"
LOOK, MAIL = ToolCall("c1", "look", '{"at": "Rome"}'), ToolCall("c2", "mail", '{"to": "bob"}')
QUESTION = {
    "interaction_id": "q1", "tool_call_id": "c2", "tool_name": "ask", "kind": "question", "prompt": "Which colour?", "options": [],
    "metadata": {},
}  # fmt: skip
ASK = ToolCall("c2", "ask", '{"what": "Which colour?"}')
USED = CallUsage(10, 2, calls=1)
ODD = "äß漢字\U0001f600 a\0b"

FINISHED: tuple[Record, ...] = (
    UserSaid(ODD, metadata={"n": 1}), ModelReplied("", (LOOK,), usage=USED), ToolReturned("c1", "fine", name="look", duration_ms=3),
    ModelReplied("Rome is fine.", usage=USED, request_digest="d"), SendEnded("completed"),
    UserSaid([{"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]),
    ModelReplied("A picture.", usage=USED, think="hm", provider_blocks=[{"type": "thinking", "signature": "s"}]), SendEnded("completed"),
)  # fmt: skip
LIVES: dict[str, tuple[Record, ...]] = {
    "finished": FINISHED,
    "folded": (*FINISHED, ContextFolded(5, "They spoke of Rome.", 1, 90, 30)),
    # A crash between two calls of one reply: one may run again, the other began and may not.
    "mid-run": (UserSaid("go", overrides={"max_rounds": 9}), ModelReplied("", (LOOK, MAIL), usage=USED), ToolStarted("c2")),
    "cut off": (*FINISHED, UserSaid("and then?")),
    "waiting": (UserSaid("paint"), ModelReplied("", (ASK,), usage=USED), ToolParked("c2", QUESTION), SendRested("waiting_for_input")),
}

# A send that a sub-agent charged, and one whose holder died while its model was asked.
LEDGER: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("INSERT INTO pl_ledgers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
     ("finished/1", "finished", 1, '{"requests":9}', 3, 1, 30, 6, 0.5, 3, 5, 6)),
    ("INSERT INTO pl_ledgers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
     ("cut-off/3", "cut-off", 3, '{"total_tokens":9000}', 0, 0, 0, 0, 0.0, 1, 5, 6)),
    ("INSERT INTO pl_charges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
     ("finished/1", "child", 2, "finished", 1, "round", "m", 10, 2, 0, 0, 0, 1, 0.5, 0, 6)),
    ("INSERT INTO pl_reservations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ("cut-off", "3.0.0.round", "cut-off/3", 1, 40, 800, 0.0, 6)),
)  # fmt: skip


async def made() -> dict[str, Any]:
    """The rows of every table of a database that lived a little."""
    database = MemoryDatabase.with_schema()
    store = SessionStore(database, database.dialect, clock=ManualClock(), ids=SeededIds(40))
    for name, records in LIVES.items():
        await live(store, name.replace(" ", "-"), records)
    await store.create_session(
        session_id="child", parent_session_id="finished", kind="subagent", lifecycle="linked", spawn_tool_call_id="c1"
    )
    await store.add_note("finished", "likes Rome", pinned=True)
    await store.set_runtime_state("finished", "n", {"null": None})
    await store.create_timer("folded", due_at=4_000_000_000_000, note="later", interval_s=60)
    await store.post("cut-off", UserSaid("hurry"), key="k1")
    await database.write([Statement("INSERT INTO pl_blobs VALUES ('finished', 'd1', ?, 3, 'text/plain', 5)", (b"a\0b",))])
    await database.write([Statement(sql, values) for sql, values in LEDGER])
    tables = {table.name: await rows_of(database, table.name) for step in SCHEMA.migrations for table in step.tables}
    await store.close()
    return {"version": SCHEMA.version, "tables": tables}


async def live(store: SessionStore, session_id: str, records: tuple[Record, ...]) -> None:
    await store.create_session(session_id=session_id, system_prompt="Be kind.", metadata={"user": "u1"}, agent="agent")
    hand = await Hand.of(store, session_id, "the-dead")
    await hand.take(*records, until=1)
    if isinstance(records[-1], (SendEnded, ContextFolded, SendRested)):
        await hand.release()


async def rows_of(database: MemoryDatabase, table: str) -> dict[str, Any]:
    columns = [name for _, name, *_ in await database.read(f"PRAGMA table_info(pl_{table})")]
    rows = await database.read(f"SELECT * FROM pl_{table} ORDER BY 1, 2")
    return {"columns": columns, "rows": [[as_json(value) for value in row] for row in rows]}


def as_json(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def main() -> int:
    golden = asyncio.run(made())
    path = FOLDER / f"{golden['version']}.json"
    text = json.dumps(golden, indent=1, sort_keys=True) + "\n"
    if "--write" in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0 if path.exists() and path.read_text(encoding="utf-8") == text else 1


if __name__ == "__main__":
    raise SystemExit(main())
