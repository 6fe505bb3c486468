"""A switch that keeps every real transport from reaching out; `power_loop.testing.forbid_model_calls` turns it."""

from __future__ import annotations

import threading

from power_loop.contracts.errors import LLMPermanentError


class ModelCallForbidden(LLMPermanentError):
    """A real model was called where the tests forbid it. Give the loop a model of `power_loop.testing`."""


class Switch:
    """Counts who forbids calls at the moment; for the whole process, threads included."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forbidders = 0

    def change(self, by: int) -> None:
        with self._lock:
            self._forbidders += by

    def check(self, provider: str, model: str | None) -> None:
        """Raises `ModelCallForbidden` while anybody forbids calls."""
        if self._forbidders:
            raise ModelCallForbidden(
                f"a call of {provider} model {model!r} was stopped by forbid_model_calls(); give the loop a ScriptedLLM or a FunctionLLM",
                provider=provider,
            )


# One for the process: a guard that a forgotten thread could walk around would guard nothing.
REAL_CALLS = Switch()
