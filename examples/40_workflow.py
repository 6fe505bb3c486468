"""A workflow that runs: a planner, an agent for each topic side by side, a writer, and a question to a person on the way."""

import asyncio
import json

from power_loop import LLMRequest, StatefulAgentLoop
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow, get_workflow

TOPICS = {"type": "object", "properties": {"topics": {"type": "array", "items": {"type": "string"}}}, "required": ["topics"]}
REPORT = {
    "name": "report",
    "input": "electric cars",
    "root": {
        "type": "sequence",
        "steps": [
            {
                "type": "agent",
                "id": "plan",
                "spec": {"name": "planner", "system_prompt": "Split a subject into topics."},
                "output_schema": {"name": "plan", "schema": TOPICS},
            },
            {
                "type": "foreach",
                "id": "research",
                "as": "topic",
                "items_from": "plan.topics",
                "body": {"type": "agent", "id": "r", "spec": {"name": "r", "system_prompt": "You know {{topic}}."}, "input": "{{topic}}?"},
            },
            {"type": "human", "id": "tone", "prompt": "Short or long, on {{input}}?", "kind": "choice", "options": ["short", "long"]},
            {"type": "agent", "id": "write", "spec": {"name": "w", "system_prompt": "Write it {{tone}}."}, "inputs_from": ["research"]},
        ],
    },
}


def answer(request: LLMRequest) -> str:
    """Plays all models."""
    said = request.messages[-1]["content"]
    if request.system_prompt.startswith("Split"):
        return json.dumps({"topics": ["batteries", "chargers"]})
    return f"({request.system_prompt} {said.splitlines()[0]})"


async def main() -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn=":memory:") as loop:
        loop.event_bus.subscribe("system_log", lambda event: print(event.payload["message"]))
        result = await create_workflow(REPORT, parent_loop=loop).run()
        print(result.summary())
        run = await get_workflow(loop, None, result.run_id)  # nothing runs now; days may pass
        (question,) = run["waiting_for"]
        done = await loop.submit_input(run["session_id"], question["interaction_id"], "short")
        print(question["prompt"], "->", done.final_text)


asyncio.run(main())
