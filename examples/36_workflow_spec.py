"""A workflow as a document: checked as a whole, planned step by step, drawn. What runs its leaves here is a plain function."""

import json

from power_loop import WorkflowSpecError
from power_loop.workflow import Leaf, Plan, StepRow, WorkflowSpec, mermaid

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
            {"type": "agent", "id": "write", "spec": {"name": "writer", "system_prompt": "Write."}, "inputs_from": ["research"]},
        ],
    },
}

# A model that got it wrong is told everything at once, and what would put it right.
try:
    WorkflowSpec.from_json({"name": "report", "root": {"type": "sequence", "stps": [], "steps": [{"type": "agnt"}, 7]}})
except WorkflowSpecError as error:
    print(error, end="\n\n")


def answer(leaf: Leaf) -> StepRow:
    payload = {"topics": ["batteries", "chargers"]} if leaf.node_id == "plan" else None
    text = json.dumps(payload) if payload else f"({leaf.node_id} answers {leaf.input.splitlines()[0]!r})"
    return StepRow(leaf.key, "completed", text=text, payload=payload, input_hash=leaf.input_hash, spec_hash=leaf.spec_hash)


spec = WorkflowSpec.from_json(REPORT)
journal: list[StepRow] = []
plan = Plan(spec)
while leaves := plan.ready():
    journal.append(answer(leaves[0]))
    plan.apply(journal[-1])
    if len(journal) == 2:  # whoever ran it is gone: the journal says where it stood
        plan = Plan(spec, journal)
        print("left to do:", [leaf.key for leaf in plan.ready()])

print(plan.result().summary(), plan.result().final, mermaid(plan), sep="\n\n")
