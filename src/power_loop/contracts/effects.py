"""Effects: what shall be done next, in the imperative. Decided from the records, never stored."""

from __future__ import annotations

from dataclasses import dataclass

from power_loop.contracts.messages import ToolCall


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model for the next reply."""

    reminder: str | None = None
    """Said to the model for this call only, stored nowhere."""
    purpose: str = "round"


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run these calls; each ends with a result or parked."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ReportUnknown:
    """These calls began before a crash and may not be repeated: tell the model that nobody knows."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ReportDenied:
    """Somebody decided that these calls shall not run: tell the model."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ReportCancelled:
    """The send stops: answer the calls that are still open."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class FoldContext:
    """The window has grown too long: summarise older sends."""


@dataclass(frozen=True, slots=True)
class CheckOutput:
    """The answer has to be of a form: see whether it is, before the send ends with it."""


@dataclass(frozen=True, slots=True)
class EndSend:
    """The send is over."""

    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until someone says something."""


Effect = CallModel | RunTools | ReportUnknown | ReportDenied | ReportCancelled | FoldContext | CheckOutput | EndSend | Rest
