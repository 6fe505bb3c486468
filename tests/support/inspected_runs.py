"""A workflow for tests of the inspector: steps in a row, side by side, in a frame, a question, and ways behind a branch."""

from __future__ import annotations

import json
from typing import Any

from power_loop import LLMRequest, StatefulAgentLoop
from power_loop.testing import FunctionLLM
from power_loop.workflow import WorkflowResult, create_workflow

TOPICS = {"type": "object", "properties": {"topics": {"type": "array", "items": {"type": "string"}}}, "required": ["topics"]}


def agent(ident: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": {"name": ident, "system_prompt": prompt}, **more}


RESEARCH = agent("r", "{{topic}}!", input="{{topic}}?")
STEPS: list[dict[str, Any]] = [
    agent("plan", "Split a subject into topics.", output_schema={"name": "plan", "schema": TOPICS}),
    {"type": "parallel", "branches": [agent("history", "Write the history."), agent("numbers", "Find numbers.")]},
    {"type": "foreach", "id": "research", "as": "topic", "items_from": "plan.topics", "body": RESEARCH},
    {"type": "human", "id": "tone", "prompt": "Short or long, on {{input}}?", "kind": "choice", "options": ["short", "long"]},
    {"type": "branch", "on": "tone", "cases": {"short": agent("brief", "Write it short."), "long": agent("essay", "Write it long.")}},
]
REPORT: dict[str, Any] = {"name": "report", "input": "electric cars", "root": {"type": "sequence", "steps": STEPS}}


def answer(request: LLMRequest) -> str:
    """Plays all models."""
    return (
        json.dumps({"topics": ["batteries", "chargers"]})
        if str(request.system_prompt).startswith("Split")
        else f"({request.system_prompt})"
    )


async def begun(store: Any, spec: Any = None, model: Any = answer) -> tuple[StatefulAgentLoop, WorkflowResult]:
    """The run, as far as it goes, and the loop that can go on with it."""
    loop = StatefulAgentLoop(llm=FunctionLLM(model), store=store)
    return loop, await create_workflow(spec or REPORT, parent_loop=loop).run()
