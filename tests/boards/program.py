"""A process that posts and changes entries: ``program.py DSN NAME COUNT``."""

from __future__ import annotations

import asyncio
import sys

from power_loop import SqliteBlackboard, open_store


async def main(dsn: str, name: str, count: int) -> None:
    store = await open_store(dsn)
    board = SqliteBlackboard(store, max_entries=100)
    for n in range(count):
        entry = await board.post("team", f"{name}{n}", author=name)
        await board.update("team", entry.id, status="done")
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
