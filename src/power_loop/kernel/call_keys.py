"""What a call asks for, read as JSON, and the key by which an attempt of it is known again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from power_loop.contracts.messages import ToolCall
from power_loop.contracts.tool import canonical
from power_loop.kernel.state import State


def parsed(arguments: str) -> Any:
    """What a model wrote as arguments; nothing is an empty object. Raises `ValueError`, or `RecursionError` when nested too deep."""
    return ARGUMENTS.decode(arguments or "{}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


# Not strict: models put raw newlines and tabs into JSON strings; anything worse is theirs to mend.
ARGUMENTS = json.JSONDecoder(strict=False, parse_constant=_refuse)


def key_of(session_id: str, send_index: int, state: State, asked: ToolCall) -> str:
    """The idempotency key of a call of the round that is under way."""
    position = next((at for at, call in enumerate(state.asked) if call.id == asked.id), 0)
    return idempotency_key(session_id, send_index, max(0, state.rounds - 1), position, asked)


def idempotency_key(session_id: str, send_index: int, round_index: int, position: int, asked: ToolCall) -> str:
    """32 hex digits, from where the call stands and what the model asked; not from the provider's call id."""
    try:
        arguments = canonical(parsed(asked.arguments))
    except (ValueError, RecursionError):
        arguments = asked.arguments
    place = f"{session_id}\n{send_index}\n{round_index}\n{position}\n{asked.name}\n{arguments}"
    return hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:32]
