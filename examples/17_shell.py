"""A shell: one for each session, confined where the machine can do that, and a command that runs in the background.

Offline with a scripted model: ``python examples/17_shell.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
Without bubblewrap the shell is bash on this machine, as you: no security boundary.
"""

import asyncio
import os
import shutil
import tempfile

from power_loop import BubblewrapShellBackend, StatefulAgentLoop, create_default_tool_registry, create_llm_service_from_env
from power_loop.testing import ScriptedLLM, call, calls, say

OFFLINE = [
    call("bash", command="mkdir -p garden && cd garden\nprintf 'rose\\ntulip\\n' > flowers"),
    calls(call("bash", command="pwd; sort -r flowers; exit 3"), call("bash", command="cat /etc/shadow | wc -c")),
    call("bash", command="r\\m -rf $(echo /)"),
    call("background_run", command="wc -l < garden/flowers"),
    call("check_background"),
    say("Two flowers grow in the garden. I was kept from the rest."),
]


async def main() -> None:
    model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(OFFLINE)
    backend = BubblewrapShellBackend() if shutil.which("bwrap") else None
    print("in a bubblewrap sandbox" if backend else "on this machine: no boundary")
    with tempfile.TemporaryDirectory() as workspace:
        registry = create_default_tool_registry(
            include=["bash", "background_run", "check_background"], workspace_dir=workspace, shell_backend=backend
        )
        async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
            session = await loop.new_session()
            await loop.send("What grows in the garden? Then look at /etc/shadow, and tidy up everything.", session)
            for message in await loop.get_messages(session):
                print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")


if __name__ == "__main__":
    asyncio.run(main())
