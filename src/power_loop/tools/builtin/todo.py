"""The tool ``todo``: the list of what is left to do, written whole each time.

It is kept as a small value beside the session, never in the transcript; showing it is the business of a projector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed

# Beside whatever a host keeps under names of its own.
TODO_KEY = "power_loop:todo"
MAX_TODOS = 20
MARKS: Mapping[str, str] = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}

Item = Mapping[str, Any]


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


def render_todos(items: Iterable[Item]) -> str:
    """A line for each item, as the model reads the list."""
    return "\n".join(f"{MARKS[item['status']]} {item['id']}: {item['text']}" for item in items)


def counted(items: Sequence[Item]) -> str:
    if not items:
        return "nothing to do"
    done = sum(item.get("status") == "completed" for item in items)
    return f"{done} of {len(items)} completed"


async def todos_of(store: Any, session_id: str) -> list[dict[str, Any]]:
    """The list as the session wrote it last; empty when it never did."""
    return (await store.get_runtime_state(session_id, TODO_KEY, {"items": []}))["items"]


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"todo": todo}
