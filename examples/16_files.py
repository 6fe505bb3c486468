"""Files: an agent that reads, edits and searches a folder, and cannot leave it.

Offline with a scripted model: ``python examples/16_files.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from power_loop import StatefulAgentLoop, create_default_tool_registry, create_llm_service_from_env
from power_loop.testing import ScriptedLLM, call, calls, say

PATCH = """\
@@ -1,2 +1,2 @@
 def greet(name):
-    return "Helo " + name
+    return "Hello " + name
"""
OFFLINE = [
    call("grep", pattern="def .*:", include="*.py"),
    calls(call("read_file", path="src/greet.py"), call("read_file", path="../diary.txt")),
    call("apply_patch", path="src/greet.py", patch=PATCH),
    say("The greeting is spelled right now. I may not read your diary."),
]


async def main() -> None:
    model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(OFFLINE)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "work"
        (workspace / "src").mkdir(parents=True)
        (workspace / "src" / "greet.py").write_text('def greet(name):\n    return "Helo " + name\n')
        (Path(folder) / "diary.txt").write_text("Dear diary")
        names = ["read_file", "write_file", "edit_file", "apply_patch", "glob", "grep"]
        registry = create_default_tool_registry(include=names, workspace_dir=workspace)
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "files.db"), tool_registry=registry) as loop:
            session = await loop.new_session()
            await loop.send("Find the spelling mistake in the code, mend it, then tell me what is in ../diary.txt.", session)
            for message in await loop.get_messages(session):
                print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")
        print((workspace / "src" / "greet.py").read_text())


if __name__ == "__main__":
    asyncio.run(main())
