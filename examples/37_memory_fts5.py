"""A memory over all sessions of a user, with SQLite's full-text search: what was said before is found again. Offline."""

import asyncio
import re
import sqlite3
from contextlib import closing

from power_loop import AgentLoopConfig, MemorySnapshot, StatefulAgentLoop, tag_as_memory
from power_loop.testing import ScriptedLLM


class Fts5Memory:
    """Keeps what the user said, and recalls what shares words with the newest question."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.database.execute("CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5 (text, send_id UNINDEXED, tokenize = 'porter')")

    async def recall(self, *, messages: list, session_id: str, budget_tokens: int = 1500) -> list:
        # Short words say little, and quotes keep them from being read as operators.
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w{4,}", messages[-1]["content"]))
        sql = "SELECT text FROM said WHERE said MATCH ? ORDER BY rank LIMIT 5"
        found = await asyncio.to_thread(lambda: self.database.execute(sql, (words,)).fetchall()) if words else []
        return [tag_as_memory("The user said earlier:\n" + "\n".join(f"- {text}" for (text,) in found))] if found else []

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        said = [message["content"] for message in snapshot.messages if message["role"] == "user" and not message.get("name")]
        row = (said[-1], snapshot.metadata["send_id"])
        await asyncio.to_thread(self.database.execute, "INSERT INTO said VALUES (?, ?)", row)


async def main(memory: Fts5Memory) -> None:
    llm = ScriptedLLM(["Noted.", "Good to know.", "Without peanuts, then: a salad."])
    config = AgentLoopConfig(memory=memory, memory_budget_tokens=500)
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=config) as loop:
        await loop.run("I am allergic to peanuts.")
        await loop.run("My sister lives in Rome.")
        print((await loop.run("May I eat these peanuts for lunch?")).final_text)  # another session, another day
    print("The model was shown, behind the question:")
    print(llm.requests[-1].messages[-1]["content"])


with closing(sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)) as database:
    try:
        memory = Fts5Memory(database)
    except sqlite3.OperationalError:
        print("This Python's SQLite was built without FTS5.")
    else:
        asyncio.run(main(memory))
