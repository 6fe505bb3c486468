"""Audit: the transcript is ordinary rows. Anyone with SQL can read who said what, which tools ran, and what it cost."""

import asyncio
import sqlite3

from power_loop import StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, say

DSN = "audit.db"


@tool(effects="once")
def pay(euros: int) -> str:
    """Pay."""
    return f"{euros} euros were paid"


async def main() -> str:
    async with StatefulAgentLoop(llm=ScriptedLLM([call("pay", euros=5), say("Done."), say("Nothing else.")]), dsn=DSN, tools=[pay]) as loop:
        session = await loop.new_session()
        await loop.send("Pay five euros.", session)
        await loop.send("What else?", session)
        return session


audited = asyncio.run(main())
with sqlite3.connect(f"file:{DSN}?mode=ro", uri=True) as database:
    # `messages` is a view: role, name, content, calls; nothing has to be parsed to read a conversation.
    query = "SELECT send_index, role, coalesce(nullif(content, ''), tool_calls) FROM pl_messages WHERE session_id = ? ORDER BY seq"
    for row in database.execute(query, (audited,)):
        print(*row, sep=" | ")
    # `records` is the log behind it: every fact in order, also the start of a tool that must not be repeated.
    query = "SELECT kind FROM pl_records WHERE session_id = ? AND send_index = 1 ORDER BY seq"
    print("facts of the first send:", *(kind for (kind,) in database.execute(query, (audited,))))
    sums = database.execute("SELECT sends, llm_calls, tool_calls, prompt_tokens FROM pl_sessions WHERE session_id = ?", (audited,))
    print("sends, model calls, tool calls, tokens:", sums.fetchone())
database.close()
