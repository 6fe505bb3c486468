"""The tool ``todo``: the list of what is left to do, written whole each time.

It is kept as a small value beside the session, never in the transcript (`tools.todos`); showing it is the business of a projector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.todos import MARKS, TODO_KEY, Item, counted, render_todos

MAX_TODOS = 20


def about(args: Mapping[str, Any], result: str | None) -> str:
    return f"todo: {counted(args.get('items') or ())}"


DEFINITIONS = (
    ToolDefinition(
        "todo",
        f"Write down the steps of a longer task and keep them up to date. Replaces the whole list: at most {MAX_TODOS} items, "
        "one of them in progress.",
        {
            "type": "object",
            "properties": {
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": {"type": "string", "minLength": 1},
                            "text": {"type": "string", "minLength": 1},
                            "status": {"enum": list(MARKS)},
                        },
                        "required": ["id", "text", "status"],
                        "additionalProperties": False,
                    },
                    "description": "All items in order; an empty list clears it",
                }
            },
            "required": ["items"],
            "additionalProperties": False,
        },
        project=about,
        effects="idempotent",
    ),
)


async def todo(run: ToolRun, items: list[dict[str, Any]]) -> ToolHandlerResult:
    """Keep ``items``, and tell listeners."""
    if not run.has_session_store:
        return failed("There is no session here whose list could be kept.")
    if (wrong := fault_in(items)) is not None:
        return failed(f"{wrong}. The list is as it was; send it again.")
    await run.store.set_runtime_state(run.session_id, TODO_KEY, {"items": items})
    rendered = render_todos(items)
    if run.tell is not None:
        counts = Counter(item["status"] for item in items)
        told = {"kind": "todo_snapshot", "items": items, "counts": {each: counts[each] for each in MARKS}}
        run.tell("todo_updated", {**told, "rendered": rendered, "text": counted(items)})
    return ToolHandlerResult(True, f"{counted(items)}\n{rendered}".rstrip("\n"))


def fault_in(items: Sequence[Item]) -> str | None:
    """What the schema cannot say: how many, each id once, one in progress."""
    if len(items) > MAX_TODOS:
        return f"A list has at most {MAX_TODOS} items, not {len(items)}: join small steps, or drop what is completed"
    if twice := [each for each, times in Counter(item["id"] for item in items).items() if times > 1]:
        return f"These ids stand there more than once: {', '.join(map(repr, twice))}"
    if blank := [item["id"] for item in items if not item["text"].strip()]:
        return f"These items have no text: {', '.join(map(repr, blank))}"
    in_progress = [item["id"] for item in items if item["status"] == "in_progress"]
    if len(in_progress) > 1:
        return f"Only one item may be in progress, not {len(in_progress)} ({', '.join(map(repr, in_progress))}): leave the others pending"
    return None


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"todo": todo}
