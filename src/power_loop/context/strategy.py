"""How older sends are replaced: the port of a fold strategy, the plain one, and the one that never folds.

When a fold is due, which sends it may cover, and what it costs is the same for all of them, and not their business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from power_loop.context.fold_context import FoldContext
    from power_loop.contracts.kept_rows import ProjectMessageRow
    from power_loop.contracts.model import LLMService


class NoteOp(NamedTuple):
    """A note that a fold wants to keep beside its summary; written when the fold stands, within the notes policy."""

    op: Literal["add", "update"]
    content: str
    pinned: bool = False
    note_id: int | None = None
    """Which note, for an update."""


class FoldResult(NamedTuple):
    """What a strategy made of the sends that it was given."""

    content: str
    """The summary."""
    folded_to_send: int
    """The last send that it covers, one of the rows'. The one under way only for the rounds that its row holds."""
    rendered_text: str | None = None
    """What the model is shown instead of ``content``."""
    note_ops: Sequence[NoteOp] = ()


@runtime_checkable
class FoldStrategy(Protocol):
    """How older sends are replaced."""

    fold_id: str
    keep_last_sends: int
    """So many sends are never folded, but for a request that does not fit without it."""
    trigger_ratio: float
    """From which part of the budget on a fold is due."""

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        """The summary of these sends, one row each, oldest first; None to leave things as they are.

        ``content`` of a row are the messages as they are shown now, ``rendered_text`` the same as text. Called only when
        a fold is due, at most for `fold_timeout_s`. What it raises never fails a send.
        """
        ...


class LLMSummaryFold:
    """One model call at temperature 0 summarises what is folded; several where the summariser cannot read it at once."""

    fold_id = "llm_summary"

    def __init__(
        self, keep_last_sends: int = 4, trigger_ratio: float = 0.75, summary_max_tokens: int = 5000, summary_llm: LLMService | None = None
    ) -> None:
        if keep_last_sends < 1 or not 0 < trigger_ratio <= 1 or summary_max_tokens < 1:
            raise ValueError(f"{type(self).__name__} needs keep_last_sends >= 1, 0 < trigger_ratio <= 1, summary_max_tokens >= 1")
        self.keep_last_sends = keep_last_sends
        self.trigger_ratio = trigger_ratio
        self.summary_max_tokens = summary_max_tokens
        self.summary_llm = summary_llm

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        """The summary of ``rows`` and of the one before; None where it is empty. Raises what the model raises."""
        summary = await context.summarise(rows, max_tokens=self.summary_max_tokens)
        return FoldResult(summary, rows[-1].send_index) if summary else None


class NeverFold:
    """History is sent as it is, however long."""

    fold_id = "never"
    keep_last_sends = 1
    trigger_ratio: float = 1.0

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        return None
