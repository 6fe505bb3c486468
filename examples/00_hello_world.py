"""The smallest program: a loop, a session, two sends. Give a model such as openai:gpt-4o-mini as argument; the default answers offline."""

import asyncio
import sys

from power_loop import StatefulAgentLoop

MODEL = sys.argv[1] if len(sys.argv) > 1 else "echo:"


async def main() -> None:
    async with StatefulAgentLoop(llm=MODEL, dsn="hello.db") as loop:
        session = await loop.new_session()
        print((await loop.send("Name a colour.", session)).final_text)
        print((await loop.send("Another one?", session)).final_text)
    print(f"Kept in hello.db as {session}: any process can go on with it.")


asyncio.run(main())
