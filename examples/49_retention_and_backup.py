"""Care of the database: archive, forget, make small, back up; everything while sends run."""

import asyncio
import tempfile
from pathlib import Path

from power_loop import StatefulAgentLoop, open_store


async def main(folder: Path) -> None:
    store = await open_store(str(folder / "app.db"))
    async with StatefulAgentLoop(llm="echo:", store=store) as loop:
        old, new = await loop.new_session(metadata={"user": "ada"}), await loop.new_session(metadata={"user": "bob"})
        for number in range(20):
            await loop.send(f"Message {number}: " + "word " * 200, old)
        await loop.send("Hello.", new)

        # Nothing is deleted unless you say so, and only what you name.
        await store.archive_session(old)  # readable, closed for sends
        print("sessions:", [(row.session_id == old, str(row.status)) for row in await store.list_sessions()])
        print("deleted:", await store.prune_sessions(older_than_ms=0))  # archived ones, of any age; a week is 7 * 24 * 3600 * 1000
        print("left:", [dict(row.metadata) for row in await store.list_sessions()])

        await store.checkpoint("TRUNCATE")
        before = (folder / "app.db").stat().st_size
        await store.vacuum()
        await store.checkpoint("TRUNCATE")
        print("the file is smaller:", (folder / "app.db").stat().st_size < before)

        sending = asyncio.create_task(loop.send("While a copy is made.", new))
        await store.backup(str(folder / "copy.db"))  # one moment, beside running sends; in place only when it is whole
        await sending
    await store.close()

    async with StatefulAgentLoop(llm="echo:", dsn=str(folder / "copy.db")) as loop:  # the copy goes on by itself
        print((await loop.send("And you?", new)).final_text)


with tempfile.TemporaryDirectory() as place:
    asyncio.run(main(Path(place)))
