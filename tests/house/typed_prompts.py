"""A third program against the public API: what a model is told beside the conversation.

`make check` has pyright read it; a test runs `main` offline. With `typed_api` and `typed_tools` it names everything that is public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, assert_type

from power_loop import (
    BUILTIN_SECTIONS,
    DEFAULT_AGENT_SYSTEM_PROMPT,
    DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT,
    DEFAULT_NOTES_POLICY,
    DEFAULT_SUBAGENT_SYSTEM_PROMPT,
    AgentLoopConfig,
    BackgroundRuntimeProjector,
    MemoryPolicy,
    NoteRow,
    NotesPolicy,
    ProjectionContext,
    RuntimeProjector,
    StatefulAgentLoop,
    SystemPromptBuilder,
    SystemPromptContext,
    TodoRuntimeProjector,
    ToolPolicy,
    ToolRun,
    ToolRuntimeContext,
    build_agent_system_prompt,
    build_explore_subagent_system_prompt,
    build_subagent_system_prompt,
    default_runtime_projectors,
    get_tool_runtime_context,
    render_notes,
)
from power_loop.llm import EchoLLM


class Stock:
    """A projector of the host's own."""

    async def project(self, *, store: Any, session_id: str, round_index: int, context: ProjectionContext) -> Sequence[dict[str, Any]]:
        return [{"role": "system", "content": f"round {round_index}: {len(context.tools)} tools"}]


def every_projector() -> tuple[RuntimeProjector, ...]:
    assert default_runtime_projectors() == (TodoRuntimeProjector(), BackgroundRuntimeProjector())
    return (*default_runtime_projectors(), Stock())


def configured() -> AgentLoopConfig:
    notes = NotesPolicy(max_notes=10, eviction="fifo")
    recall, tooling = MemoryPolicy(notes=notes), ToolPolicy(projectors=every_projector(), skills_dir="skills")
    return AgentLoopConfig(system_prompt=prompt(), recall=recall, tooling=tooling)


def prompt() -> str:
    builder = SystemPromptBuilder(use_defaults=False).use("identity", "style").add("shop", "You sell bicycles.", after="identity")
    assert set(builder.section_names) - set(BUILTIN_SECTIONS) == {"shop"}
    context = SystemPromptContext(model="m", tool_names=("todo",))
    kinds = [build_subagent_system_prompt(context), build_explore_subagent_system_prompt(context, "Be quick.")]
    for kind, begins in zip(kinds, (DEFAULT_SUBAGENT_SYSTEM_PROMPT, DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT), strict=True):
        assert kind.startswith(begins)
    text = build_agent_system_prompt(context, builder=builder)
    assert text.startswith(DEFAULT_AGENT_SYSTEM_PROMPT)
    return text


def noted() -> str:
    notes = [NoteRow("s", 1, "likes tea", True, 0, 0)]
    return assert_type(render_notes(notes, policy=DEFAULT_NOTES_POLICY), str)


async def main() -> None:
    """Everything above."""
    assert_type(get_tool_runtime_context(required=False), ToolRun)
    assert ToolRuntimeContext is ToolRun
    assert noted() == "- [1] (pinned) likes tea"
    async with StatefulAgentLoop(llm=EchoLLM(), dsn=":memory:", config=configured()) as loop:
        session = await loop.new_session()
        assert (await loop.send("hello", session)).status == "completed"
        assert (await loop.resolve_system_prompt(session_id=session)).endswith("not sure.")


if __name__ == "__main__":
    asyncio.run(main())
