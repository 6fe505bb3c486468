"""Records: what is durably true, in the past tense. A session is a list of them.

Immutable once written; `codec` turns them into rows and back. If a crash may not forget it, it is a
record; otherwise it is the performer's own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from power_loop.contracts.messages import Content, ToolCall
from power_loop.contracts.usage import NO_USAGE, CallUsage

# The purposes of a reply that is a round of its send: the model may call tools in it. ``output_retry`` follows a word named ``schema``.
ROUNDS = ("round", "output_retry")

Outcome = Literal["ok", "failed", "skipped", "aborted", "unknown", "denied"]
UnknownPolicy = Literal["report", "rerun", "ask"]


class UserSaid(NamedTuple):
    """A word from outside. The first one in a session at rest begins a send."""

    content: Content
    name: str | None = None
    """``follow_up``, ``hook``, ``schema`` for words that enter a send under way; else the caller's name for the user."""
    overrides: Mapping[str, Any] | None = None
    """Per-send settings that can be stored: ``tools`` (names), ``system_prompt``, ``limits``, ``max_rounds``, ``output``."""
    key: str | None = None
    metadata: Mapping[str, Any] | None = None


class SendResumed(NamedTuple):
    """The last send goes on although it had ended, or under other terms."""

    extra_rounds: int = 0
    unknown: UnknownPolicy = "report"
    overrides: Mapping[str, Any] | None = None


class ModelReplied(NamedTuple):
    """A reply that was paid for. Its tool calls are open until each has a `ToolReturned`."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    purpose: str = "round"
    """``round``, ``output_retry``, ``limit_summary``, or ``degraded``: a row for people, for which no model spoke."""
    usage: CallUsage = NO_USAGE
    finish_reason: str = "stop"
    model: str | None = None
    response_id: str | None = None
    request_digest: str | None = None
    think: str = ""
    provider_blocks: Any = None
    """What the provider wants back, word for word, while the send is under way (signed thinking, say)."""


class CallCharged(NamedTuple):
    """A model call that left no reply: failed, cut off, or made for a fold."""

    purpose: str
    usage: CallUsage
    error: str | None = None
    model: str | None = None


class RoundSkipped(NamedTuple):
    """A hook used up a round without a model call."""

    reason: str = ""


class ToolStarted(NamedTuple):
    """Written before a tool of effects ``once`` runs, so that a crash leaves a trace of the attempt."""

    call_id: str
    name: str | None = None
    """Set with ``arguments`` when a hook rewrote the call, for tools of every effect class."""
    arguments: str | None = None


class ToolParked(NamedTuple):
    """The call waits for someone outside; its result arrives as a `ToolReturned`."""

    call_id: str
    interaction: Mapping[str, Any]
    """``interaction_id``, ``kind``, ``prompt``, and what the kind needs."""


class Decided(NamedTuple):
    """Someone approved or denied a parked call; or nobody did in time, which denies it."""

    interaction_id: str
    call_id: str
    approved: bool
    by: str | None = None
    note: str | None = None
    digest: str = ""
    """Of exactly what was decided on: the call, its tool and its arguments. See `contracts.approvals`."""
    decided_at: int | None = None
    """ms, UTC; the record may be written later, when the session hears of it."""


class Answered(NamedTuple):
    """Someone answered what a parked call asked for its own use: the call runs again and is handed the answer."""

    interaction_id: str
    call_id: str
    answer: Any = None


class ToolReturned(NamedTuple):
    """The one answer that a call gets."""

    call_id: str
    output: Content
    outcome: Outcome = "ok"
    name: str | None = None
    data: Mapping[str, Any] | None = None
    """For events and the host; the model does not see it."""
    duration_ms: int = 0
    ran: bool = True
    """A handler was called for it (counted in ``tool_calls``)."""
    retry: bool = False
    """`ModelRetry` said so: it counts against the tool's ``retries``."""


class StopRequested(NamedTuple):
    """The send shall end with ``status``; open calls are answered first."""

    status: str
    reason: str = ""
    by: str = ""


class ContextFolded(NamedTuple):
    """``summary`` stands in for every record up to and including ``through`` (a seq)."""

    through: int
    summary: str
    through_send: int = 0
    before_tokens: int = 0
    after_tokens: int = 0
    keeps: int = 0
    """When the border lies inside a send: seq of the word that began it, which stays. ``through_send`` is that send."""
    rounds: int = 0
    """So many rounds of that send are covered."""
    scale: float = 0.0
    """What the provider counted for one estimated token, as of the last request; 0 when it never said."""


class FoldSkipped(NamedTuple):
    """No fold came about; it is not due again before there is new material."""

    reason: str
    through: int = 0
    tokens: int = 0
    """Estimated, of the window as it was left."""
    cut: tuple[str, int] | None = None
    """(call id, characters): from here on the results up to that call's are shown with no more than so many characters."""


class SendProjected(NamedTuple):
    """How a finished send is shown in projection mode, so that later code does not change earlier prompts."""

    send: int
    kind: str
    version: int
    rows: tuple[Mapping[str, Any], ...]
    lo: int = 0
    """seq of the first record that is shown so."""
    hi: int = 0
    scale: float = 0.0
    """As in `ContextFolded`."""


class SendRested(NamedTuple):
    """The run is over, the send is not: ``waiting_for_input``, ``pending_tools``, ``interrupted`` or ``failed``."""

    status: str
    error: Mapping[str, Any] | None = None


class SendEnded(NamedTuple):
    """The send is over; ``status`` is what its caller sees."""

    status: str
    reason: str = ""
    error: Mapping[str, Any] | None = None


class StepChanged(NamedTuple):
    """What became of one step of a workflow; only in sessions of kind ``workflow``. ``step`` is its key, empty for the run itself."""

    step: str
    change: Mapping[str, Any]
    """The row of the journal, without its key. A ``state`` of ``waiting`` parks the step as a call, until another one comes."""


Record = (
    UserSaid | SendResumed | ModelReplied | CallCharged | RoundSkipped | ToolStarted | ToolParked | Decided | Answered | ToolReturned
    | StopRequested | ContextFolded | FoldSkipped | SendProjected | SendRested | SendEnded | StepChanged
)  # fmt: skip
