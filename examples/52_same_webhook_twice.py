"""Keys: whatever is delivered twice counts once, also when the process that took it dies before it could say so."""

import asyncio
import os
import signal
import sys

from power_loop import StatefulAgentLoop

DSN = "webhooks.db"


async def take(delivery: str, session: str, *, die: bool = False) -> None:
    """What the route of a webhook does: leave the word, then confirm."""
    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        queued = await loop.enqueue(f"A parcel arrived: {delivery}.", session, key=delivery)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)  # durable, but the sender was never told
        print(f"{delivery}: {'known already' if queued.duplicate else 'new'}")


async def main() -> None:
    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        session = await loop.new_session()

    died = await asyncio.create_subprocess_exec(sys.executable, __file__, session)
    print("the first process ended with", await died.wait())
    await take("delivery-1", session)  # the sender tries again
    await take("delivery-2", session)

    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        print("waiting:", len(await loop.inbox(session)))
        # Whoever needs the answer asks under the same key, as often as they like: it is made once.
        answers = await asyncio.gather(*(loop.send("A parcel arrived: delivery-1.", session, key="delivery-1") for _ in range(3)))
        print("answers:", {answer.final_text for answer in answers}, "| model calls:", (await loop.get_session_stats(session)).llm_calls)


if len(sys.argv) > 1:
    asyncio.run(take("delivery-1", sys.argv[1], die=True))
else:
    asyncio.run(main())
