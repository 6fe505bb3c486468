"""The strategies that a configuration chooses from. What they mean for a window is in `fold`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class FoldStrategy(Protocol):
    """How older sends are replaced."""

    fold_id: str
    keep_last_sends: int
    trigger_ratio: float


class LLMSummaryFold:
    """One model call at temperature 0 summarises all but the last sends."""

    fold_id = "llm_summary"

    def __init__(
        self, keep_last_sends: int = 4, trigger_ratio: float = 0.75, summary_max_tokens: int = 5000, summary_llm: Any = None
    ) -> None:
        if keep_last_sends < 1 or not 0 < trigger_ratio <= 1 or summary_max_tokens < 1:
            raise ValueError("LLMSummaryFold needs keep_last_sends >= 1, 0 < trigger_ratio <= 1, summary_max_tokens >= 1")
        self.keep_last_sends = keep_last_sends
        self.trigger_ratio = trigger_ratio
        self.summary_max_tokens = summary_max_tokens
        self.summary_llm = summary_llm


class NeverFold:
    """History is sent as it is, however long."""

    fold_id = "never"
    keep_last_sends = 1
    trigger_ratio = 1.0
