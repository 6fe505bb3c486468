"""Archives, forks and the doctor: move a session to another database, branch it off, and see why one does not go on."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from power_loop import StatefulAgentLoop, open_store, tool
from power_loop.runtime.doctor import doctor
from power_loop.testing import ScriptedLLM, call, say

paying = asyncio.Event()


@tool
async def pay(euros: int) -> str:
    """Pay; takes its time."""
    paying.set()
    await asyncio.Event().wait()
    return f"paid {euros}"


async def main(folder: Path) -> None:
    store = await open_store(str(folder / "app.db"))
    async with StatefulAgentLoop(llm=ScriptedLLM([say("Blue."), say("Red.")]), store=store) as loop:
        session = await loop.new_session()
        await loop.send("Name a colour.", session)
        await loop.send("Another one?", session)

    # One JSON object is the whole session; elsewhere it goes on as if it had always been there.
    archive = json.dumps(await store.export_session(session))
    other = await open_store(str(folder / "other.db"))
    copy = await other.import_session(json.loads(archive))
    model = ScriptedLLM([say("Green.")])
    async with StatefulAgentLoop(llm=model, store=other) as loop:
        await loop.send("And a third?", copy)
    print("the copy remembers:", [message["content"] for message in model.requests[0].messages])
    await other.close()

    # A fork goes its own way from the end of one send.
    branch = await store.fork_session(session, at_send=1)
    print("the fork remembers:", [row.content for row in await store.load_all_messages(branch)])

    # A send that was cut off in the middle of a call that may not be repeated.
    async with StatefulAgentLoop(llm=ScriptedLLM([call("pay", euros=5)]), store=store, tools=[pay]) as loop:
        sending = asyncio.create_task(loop.send("Pay five euros.", branch))
        await paying.wait()
        sending.cancel()  # as a crash would, this leaves the call without a result
        await asyncio.wait([sending])
    for finding in (await doctor(store, branch)).findings:
        print(f"{finding.code}: {finding.text}")
    print("after the repair:", (await doctor(store, branch, repair=True)).state)
    await store.close()


with TemporaryDirectory() as name:
    asyncio.run(main(Path(name)))
