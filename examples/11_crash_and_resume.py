"""`kill -9` in the middle of a tool; another process goes on. What was stored is neither paid nor run again."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from power_loop import SessionPendingError, StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, say

DSN, LEDGER = "crash.db", Path("crash-ledger.txt")


@tool(effects="pure")
def price(item: str) -> float:
    """What an item costs."""
    print(f"  (price of {item} is looked up)", flush=True)
    return 9.5


@tool(effects="once")
def pay(euros: float) -> str:
    """Pay for the order. The process dies when the money has left and before anybody was told."""
    LEDGER.write_text(f"{euros} paid\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return "paid"


async def first_process(session: str) -> None:
    script = [call("price", item="tea"), call("pay", euros=9.5)]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=DSN, tools=[price, pay]) as loop:
        await loop.send("Buy the tea.", await loop.new_session(session_id=session))


async def second_process(session: str) -> None:
    script = [say("The payment was cut off and may have gone through. I did not repeat it; please look at your account.")]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=DSN, tools=[price, pay]) as loop:
        try:
            await loop.send("Did it work?", session)
        except SessionPendingError as error:
            print(error)
        print("unknown:", (await loop.get_pending(session) or {})["unknown_call_ids"])
        result = await loop.resume(session)
        print((await loop.get_messages(session))[-2]["content"])
        print(result.status, "|", result.final_text)


if len(sys.argv) > 1:
    asyncio.run(first_process(sys.argv[1]))
else:
    order = f"order/{os.getpid()}"
    died = subprocess.run([sys.executable, __file__, order], check=False)
    print(f"the first process ended with {died.returncode}; the ledger says: {LEDGER.read_text().strip()}")
    asyncio.run(second_process(order))
