"""Tools: two plain functions, one with typed arguments and a key that makes repeating it harmless.

Offline with a scripted model: ``python examples/02_tool_calling.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
"""

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from power_loop import ModelRetry, StatefulAgentLoop, ToolRun, create_llm_service_from_env, tool
from power_loop.testing import ScriptedLLM, call, calls, say


@dataclass
class Money:
    amount: float
    currency: Literal["EUR", "USD"] = "EUR"


@tool(effects="pure")
def find_order(customer: Annotated[str, "the customer's name"]) -> dict:
    """Find a customer's last order."""
    return {"order": 7, "customer": customer, "total": {"amount": 30.0, "currency": "EUR"}}


@tool(effects="idempotent")
async def refund(run: ToolRun, order: int, money: Annotated[Money, "at most what was paid"]) -> str:
    """Pay a customer back."""
    if money.amount > 30:
        raise ModelRetry("that is more than was paid; refund at most 30")
    # A bank that gets the same key twice pays once; the key stays the same when a crash makes this run again.
    return f"{money.amount} {money.currency} for order {order}, key {run.idempotency_key[:8]}…"


OFFLINE = [
    call("find_order", customer="Ada"),
    calls(call("refund", order="7", money={"amount": 30}), call("refund", order=7, money={"amount": 300})),
    call("refund", order=7, money={"amount": 30}),
    say("30 euros are on their way."),
]


async def main() -> None:
    model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(OFFLINE)
    with tempfile.TemporaryDirectory() as folder:
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "shop.db"), tools=[find_order, refund]) as loop:
            session = await loop.new_session()
            await loop.send("Ada wants her money back.", session)
            for message in await loop.get_messages(session):
                print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")


if __name__ == "__main__":
    asyncio.run(main())
