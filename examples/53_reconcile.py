"""Unknown outcomes: a payment was cut off. A tool that can look up what became of it says so, and nothing is paid twice."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from power_loop import StatefulAgentLoop, ToolRun, tool
from power_loop.testing import ScriptedLLM, call, respond

DSN, BANK = "reconcile.db", Path("bank")


async def look_it_up(run: ToolRun, args: dict[str, Any]) -> str | None:
    """Asked first, whenever a call was cut off. None: the bank does not know either."""
    receipt = BANK / run.idempotency_key
    return receipt.read_text() if receipt.exists() else None


@tool(effects="once", reconcile=look_it_up)
def pay(run: ToolRun, euros: int, die: str) -> str:
    """Pay. The process dies before or after the money has left."""
    if die == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    BANK.mkdir(exist_ok=True)
    (BANK / run.idempotency_key).write_text(f"receipt over {euros} euros")
    os.kill(os.getpid(), signal.SIGKILL)
    return "paid"


async def first(session: str, die: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([call("pay", euros=5, die=die)]), dsn=DSN, tools=[pay]) as loop:
        await loop.send("Pay five euros.", await loop.new_session(session_id=session))


async def second(session: str) -> None:
    told = respond(lambda request: request.messages[-1]["content"])
    async with StatefulAgentLoop(llm=ScriptedLLM([told]), dsn=DSN, tools=[pay]) as loop:
        print(session, "|", (await loop.resume(session)).final_text)


if len(sys.argv) > 1:
    asyncio.run(first(*sys.argv[1:]))
else:
    for when in ("after", "before"):
        name = f"{when}-{os.getpid()}"
        subprocess.run([sys.executable, __file__, name, when], check=False)
        asyncio.run(second(name))
    print("paid:", len(list(BANK.iterdir())))
