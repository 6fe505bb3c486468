"""Todos and notes: what the agent keeps beside the conversation. The list is shown at every step and stored in no message.

Offline with a scripted model: ``python examples/27_todos_and_notes.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from power_loop import (
    AgentEventBus,
    AgentLoopConfig,
    MemoryPolicy,
    NotesPolicy,
    StatefulAgentLoop,
    create_default_tool_registry,
    create_llm_service_from_env,
    render_notes,
)
from power_loop.testing import ScriptedLLM, call, calls, say


def steps(first: str, second: str) -> list[dict[str, str]]:
    return [{"id": "1", "text": "measure the wall", "status": first}, {"id": "2", "text": "buy paint", "status": second}]


OFFLINE = [
    call("todo", items=steps("in_progress", "pending")),
    calls(call("note_add", content="the wall has 12 square metres", pinned=True), call("todo", items=steps("completed", "in_progress"))),
    calls(*(call("note_add", content=f"shop {n} is closed") for n in (1, 2, 3))),
    call("todo", items=steps("completed", "completed")),
    say("Two litres of paint are enough."),
]


async def main() -> None:
    model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(OFFLINE)
    # The newest three notes are kept, and those that are pinned.
    config = AgentLoopConfig(recall=MemoryPolicy(notes=NotesPolicy(max_notes=3, eviction="fifo")))
    bus = AgentEventBus()
    bus.subscribe("todo_updated", lambda event: print(f"[{event.payload['text']}]\n{event.payload['rendered']}"))
    registry = create_default_tool_registry(include=["todo", "note_add", "note_update", "note_delete"])
    with tempfile.TemporaryDirectory() as folder:
        loop = StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "p.db"), tool_registry=registry, config=config, event_bus=bus)
        async with loop:
            session = await loop.new_session()
            print((await loop.send("Help me paint my wall.", session)).final_text)
            print(render_notes(await loop.store.list_notes(session)))


if __name__ == "__main__":
    asyncio.run(main())
