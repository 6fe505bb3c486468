"""`ModelRetry`: the model is told what to change, so often as the tool allows; then the tool is left alone for this send.

What was asked so far stands in the records, so a resumed send goes on counting.
"""

from __future__ import annotations

from power_loop.contracts.errors import ModelRetry
from power_loop.contracts.records import ToolReturned
from power_loop.contracts.tool import ToolDefinition
from power_loop.runtime.send import Send


def tries_left(send: Send, definition: ToolDefinition) -> int:
    """How often the tool may still fail and be called again; below 0 it is not called any more."""
    return definition.retries - send.ahead.retried.count(definition.name)


def asked_again(send: Send, call_id: str, definition: ToolDefinition, asked: ModelRetry, *, ran: bool = True) -> ToolReturned:
    """The failed result that says what to change; the last one also says that there is no next time."""
    text = asked.message if tries_left(send, definition) > 0 else f"{asked.message}\n{_given_up(definition)}"
    return ToolReturned(call_id, text, "failed", definition.name, ran=ran, retry=True)


def not_again(call_id: str, definition: ToolDefinition) -> ToolReturned:
    """The answer to a further call."""
    return ToolReturned(call_id, f"Error: it was not run. {_given_up(definition)}", "failed", definition.name, ran=False)


def _given_up(definition: ToolDefinition) -> str:
    return f"{definition.name} failed too often and will not be tried again for this request; go on without it."
