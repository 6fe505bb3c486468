"""What the SQLite engine costs above bare commits: raw sqlite3, one writer, fifty writers, in both synchronous modes.

    python bench/engine.py [folder]

One "batch" is a plain send's half: a fenced UPDATE of the thin row and two records. Figures are per batch; the
ratio to the bare commit of the same rows in the same run is what counts, since disks differ.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from power_loop.contracts.store import Statement
from power_loop.store.open import open_database
from power_loop.store.sqlite_file import SqliteFile

FENCE = (
    "UPDATE pl_sessions SET head=?, epoch=?, holder=?, lease_until=?, send_index=?, sends=sends+?, updated_at=?"
    " WHERE session_id=? AND head=?"
)
RECORD = (
    "INSERT INTO pl_records(session_id, seq, epoch, kind, version, send_index, round_index, role, content, body, created_at)"
    " VALUES(?,?,?,?,?,?,?,?,?,?,?)"
)
TEXT = "x" * 200


def batch(session: str, head: int) -> list[Statement]:
    now = time.time_ns() // 1_000_000
    rows = [Statement(RECORD, (session, head + n, now, "user_said", 1, head, None, "user", TEXT, '{"usage":[10,20]}', now)) for n in (1, 2)]
    return [Statement(FENCE, (head + 2, now, "holder", now, head, 1, now, session, head), 1), *rows]


def created(session: str) -> list[Statement]:
    return [Statement("INSERT INTO pl_sessions(session_id, created_at, updated_at) VALUES(?,0,0)", (session,))]


def raw(path: Path, synchronous: str, n: int) -> float:
    """Seconds per bare commit."""
    connection = SqliteFile(str(path), synchronous=synchronous, busy_timeout_ms=5000).open()  # type: ignore[arg-type]  # one of two words
    connection.execute(*created("raw")[0][:2])
    started = time.perf_counter()
    for i in range(n):
        connection.execute("BEGIN IMMEDIATE")
        for sql, params, _ in batch("raw", 2 * i):
            connection.execute(sql, params)
        connection.execute("COMMIT")
    taken = time.perf_counter() - started
    connection.close()
    return taken / n


async def writers(path: Path, synchronous: str, tasks: int, n: int) -> float:
    """Seconds per batch, of ``tasks`` writers with a session and ``n`` batches each."""
    database = (await open_database(f"sqlite:///{path}?synchronous={synchronous}")).database

    async def one(session: str) -> None:
        for i in range(n):
            await database.write(batch(session, 2 * i))

    for i in range(tasks):
        await database.write(created(f"{tasks}-{i}"))
    started = time.perf_counter()
    await asyncio.gather(*(one(f"{tasks}-{i}") for i in range(tasks)))
    taken = time.perf_counter() - started
    await database.close()
    return taken / (tasks * n)


async def reads(path: Path, n: int) -> float:
    database = (await open_database(f"sqlite:///{path}")).database
    await database.write(created("read"))
    started = time.perf_counter()
    for _ in range(n):
        await database.read("SELECT head, epoch FROM pl_sessions WHERE session_id=?", ("read",))
    taken = time.perf_counter() - started
    await database.close()
    return taken / n


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for synchronous in ("full", "normal"):
            path = Path(folder) / f"{synchronous}.db"
            await (await open_database(f"sqlite:///{path}")).database.close()
            bare = await asyncio.to_thread(raw, path, synchronous, 1500)
            one = await writers(path, synchronous, 1, 1500)
            fifty = await writers(path, synchronous, 50, 200)
            print(
                f"{synchronous:7} bare {bare * 1e6:6.0f} us   one writer {one * 1e6:6.0f} us ({one / bare:.2f} x)   "
                f"fifty writers {fifty * 1e6:6.0f} us ({1 / fifty:,.0f} batches/s)"
            )
        print(f"read {await reads(Path(folder) / 'reads.db', 3000) * 1e6:.0f} us")


if __name__ == "__main__":
    asyncio.run(main())
