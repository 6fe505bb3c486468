"""Skills: folders with instructions that the model is told of, and loads when it needs them.

Offline with a scripted model: ``python examples/24_skills.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from power_loop import AgentLoopConfig, StatefulAgentLoop, create_default_tool_registry, create_llm_service_from_env
from power_loop.testing import ScriptedLLM, call, say

SKILL = """\
---
name: release-notes
description: How we write release notes here
license: MIT
---
Begin with what users will notice. The words we use stand in words.txt.
"""


def written(folder: Path) -> Path:
    skill = folder.resolve() / "skills" / "release-notes"
    skill.mkdir(parents=True)
    (folder / "work").mkdir()
    (skill / "SKILL.md").write_text(SKILL)
    (skill / "words.txt").write_text("Say batch, not transaction.\n")
    return skill


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        skill = written(folder)
        offline = [
            call("load_skill", name="release-notes"),
            call("read_file", path=str(skill / "words.txt")),
            say("Faster: a plain send takes two batches now."),
        ]
        model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(offline)
        registry = create_default_tool_registry(
            include=["load_skill", "read_file"], workspace_dir=folder / "work", home_dir=folder, skills_dir=skill.parent
        )
        config = AgentLoopConfig(system_prompt="You write for the project.")
        async with StatefulAgentLoop(llm=model, dsn=str(folder / "notes.db"), tool_registry=registry, config=config) as loop:
            session = await loop.new_session()
            print(await loop.resolve_system_prompt(session_id=session), "\n")
            await loop.send("Write the release notes.", session)
            for message in await loop.get_messages(session):
                print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")


if __name__ == "__main__":
    asyncio.run(main())
