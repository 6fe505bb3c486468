"""How far a send may go: the numbers that `decide` reads."""

from __future__ import annotations

from dataclasses import dataclass

from power_loop.contracts.usage import UsageLimits

# The reason of a stop that a limit in seconds asked for.
TIME_LIMIT = "time limit"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one send, from its config and its own overrides."""

    rounds: int = 24
    usage: UsageLimits | None = None
    fold_at_tokens: int | None = None
    """Estimated tokens of a request at which older sends are folded; None never."""
    has_tools: bool = True
    """The driver offers tools; without any, asked calls wait as ``pending_tools``."""
    lacks: frozenset[str] = frozenset()
    """Tools that the send was given by name and this driver does not have: calls of them wait, too."""
    empty_retries: int = 1
    output_retries: int | None = None
    """How often an answer that is not of the form is asked for again; None where no form was asked for."""


NO_LIMITS = Limits()
