"""Are these messages something that every provider takes? Each call answered once, in order, nothing in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def pairing_problem(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The first place where a call and its result do not belong together; None when all is well."""
    expected: list[str] = []
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            call_id = message.get("tool_call_id")
            if not expected or call_id != expected[0]:
                return f"message {at} answers the call {call_id!r}, expected {expected[0] if expected else 'no result'!r}"
            expected.pop(0)
            continue
        if expected:
            return f"message {at} stands before the result of the call {expected[0]!r}"
        expected = [call["id"] for call in message.get("tool_calls") or ()]
    return f"the call {expected[0]!r} has no result" if expected else None


def check_pairs(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raises `ValueError` when a provider would refuse ``messages``."""
    if problem := pairing_problem(messages):
        raise ValueError(f"these messages cannot be sent: {problem}")
