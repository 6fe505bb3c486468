"""The list of what a session has left to do: where it is kept, and how a model reads it.

Who writes it is `builtin.todo`; who shows it round by round is `projectors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Beside whatever a host keeps under names of its own.
TODO_KEY = "power_loop:todo"
MARKS: Mapping[str, str] = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}

Item = Mapping[str, Any]


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
