"""Sessions: ids of your own, metadata, prompts, listing, going on from another process, archiving, deleting."""

import asyncio

from power_loop import SessionArchivedError, SessionNotFoundError, StatefulAgentLoop

DSN = "sessions.db"


async def main() -> None:
    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        if not await loop.prewarm("user/ada"):  # False: there is no such session yet
            await loop.new_session(session_id="user/ada", metadata={"user": "ada"}, system_prompt="You are terse.")
        await loop.send("My name is Ada.", "user/ada")

    # Another loop, perhaps in another process, needs the database and the id, and nothing else.
    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        await loop.send("What is my name?", "user/ada")
        for message in await loop.get_messages("user/ada"):
            print(f"{message['role']}: {message['content']}")
        print("prompt:", await loop.resolve_system_prompt(session_id="user/ada"))

        store = await loop.ensure_store()
        for row in await store.list_sessions(metadata={"user": "ada"}):
            stats = await loop.get_session_stats(row.session_id)
            print(f"{row.session_id}: {row.status}, {stats.sends if stats else 0} sends, {dict(row.metadata)}")

        await store.archive_session("user/ada")  # readable, but closed for sends
        try:
            await loop.send("Hello?", "user/ada")
        except SessionArchivedError as error:
            print(error)

        await loop.close_session("user/ada")  # the session and everything in it is gone
        try:
            await loop.send("Hello?", "user/ada")
        except SessionNotFoundError as error:
            print(error)


asyncio.run(main())
