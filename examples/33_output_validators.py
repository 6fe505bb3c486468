"""Validators: what no schema can say is said in Python, and the model is asked again in your words.

Runs offline with a scripted model: ``python examples/33_output_validators.py``.
"""

import asyncio
from dataclasses import dataclass

from power_loop import AgentLoopConfig, ModelRetry, RunPolicy, StatefulAgentLoop
from power_loop.testing import ScriptedLLM, say

STOCK = {"kettle": 3, "cup": 40}


@dataclass
class Order:
    item: str
    amount: int


def in_stock(order: Order) -> Order:
    if order.item not in STOCK:
        raise ModelRetry(f"We do not sell {order.item!r}. We sell {', '.join(STOCK)}.")
    return order


async def not_too_many(order: Order) -> Order:
    if order.amount > STOCK[order.item]:
        raise ModelRetry(f"There are {STOCK[order.item]} left; order no more than that.")
    return order


SCRIPT = [
    say('{"item": "teapot", "amount": 5}'),
    say('{"item": "kettle", "amount": 5}'),
    say('{"item": "kettle", "amount": 3}'),
    say('{"item": "teapot", "amount": 1}'),
]


async def main() -> None:
    config = AgentLoopConfig(output_type=Order, output_validators=(in_stock, not_too_many), running=RunPolicy(output_retries=2))
    llm = ScriptedLLM(SCRIPT, strict=False)  # the last answer is given for ever
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=config) as loop:
        result = await loop.run("Five of what you boil water in, please.")
        print(result.status, result.output)
        assert result.output == Order("kettle", 3)

        result = await loop.run("A teapot!")
        print(result.status, result.output, result.error["message"])
        assert result.status == "invalid_output"


if __name__ == "__main__":
    asyncio.run(main())
