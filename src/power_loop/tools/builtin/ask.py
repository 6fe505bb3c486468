"""The tool ``request_user_input``, and the same question for tools of the host: it parks the call until someone answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from power_loop.contracts.errors import HumanInputRequired
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed

KINDS = ("text", "confirm", "choice")


def about(args: Mapping[str, Any], result: str | None) -> str:
    asked = f"request_user_input: {' '.join(str(args.get('prompt', '')).split())[:120]}"
    return f"{asked} → {result[:120]}" if result else asked


DEFINITIONS = (
    ToolDefinition(
        "request_user_input",
        "Ask the user something that only the user can decide or know, and wait for the answer.",
        {
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "minLength": 1, "description": "The question, complete in itself"},
                "kind": {"enum": list(KINDS), "description": "text (the default), confirm (yes or no), or choice (one of the options)"},
                "options": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": {"type": "string", "minLength": 1},
                            "label": {"type": "string", "minLength": 1},
                            "description": {"type": "string"},
                        },
                        "required": ["id", "label"],
                    },
                    "description": "What to choose from, for kind choice",
                },
                "metadata": {"type": "object", "description": "For the user's interface"},
            },
            "required": ["prompt"],
            "additionalProperties": False,
        },
        project=about,
        # To ask again after a crash is the same question: its id comes from the call.
        effects="pure",
    ),
)


def request_user_input(
    *, kind: str = "text", prompt: str, options: Sequence[Any] | None = None, metadata: Mapping[str, Any] | None = None
) -> NoReturn:
    """Called inside of a handler: park the call. The answer becomes the call's result; the handler is not called again."""
    raise HumanInputRequired(prompt, kind=kind, options=options, metadata=metadata)


def ask(
    run: ToolRun,
    prompt: str,
    kind: str = "text",
    options: list[dict[str, Any]] | None = None,
    metadata: dict[str, Any] | None = None,
) -> ToolHandlerResult:
    """Park this call, unless nobody could answer the question."""
    if not prompt.strip():
        return failed("The question is empty: say in prompt what you want to know.")
    if kind == "choice" and not options:
        return failed("A choice needs options to choose from: give options, or ask with kind text.")
    ids = [option["id"] for option in options or ()]
    if len(set(ids)) < len(ids):
        return failed("Two options have the same id, so an answer could mean either: give each an id of its own.")
    request_user_input(kind=kind, prompt=prompt, options=options, metadata=metadata)


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"request_user_input": ask}
