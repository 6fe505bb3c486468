"""Workers: words are left in a queue, and any number of processes on one database answer them, each once."""

import asyncio
import sys

from power_loop import StatefulAgentLoop, Worker, tool
from power_loop.testing import FunctionLLM, call, say

DSN = "queue.db"


@tool(effects="once")
async def ship(order: int) -> str:
    """Have an order shipped."""
    return f"order {order} is on its way"


def make_loop() -> StatefulAgentLoop:
    """What every process makes, and what `power-loop worker --app` is given: model, tools and database in one place."""

    def answer(request):
        last = request.messages[-1]
        if last["role"] == "user":
            return call("ship", order=int("".join(filter(str.isdigit, last["content"]))))
        return say(f"Done: {last['content']}.")

    return StatefulAgentLoop(llm=FunctionLLM(answer), dsn=DSN, tools=[ship], name="shop")


async def work(name: str) -> None:
    async with make_loop() as loop:
        worker, claimed = Worker(loop, concurrency=2), 0
        while n := await worker.run_once():  # a service calls `await worker.run()` instead, until SIGTERM
            claimed += n
        print(f"{name} looked after {claimed} sessions", flush=True)


async def main() -> None:
    async with make_loop() as loop:
        sessions = [await loop.new_session() for _ in range(6)]
        for number, session in enumerate(sessions):
            await loop.enqueue(f"Ship order {number}.", session, key=f"order-{number}")
            await loop.enqueue(f"Ship order {number}.", session, key=f"order-{number}")  # said twice, counted once

        workers = [await asyncio.create_subprocess_exec(sys.executable, __file__, f"worker {n}") for n in range(3)]
        assert [await worker.wait() for worker in workers] == [0, 0, 0]

        for session in sessions:
            messages = await loop.get_messages(session)
            print([message["role"] for message in messages], messages[-1]["content"])


asyncio.run(work(sys.argv[1]) if len(sys.argv) > 1 else main())
