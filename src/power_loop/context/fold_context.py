"""What a fold strategy is given: what it may know, the models it may call, and the plain way to a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from power_loop.context.summary import SUMMARY_PROMPT, as_lines, slices, summary_in, with_earlier
from power_loop.contracts.kept_rows import NoteRow, ProjectMessageRow
from power_loop.contracts.messages import Message, estimate_text_tokens
from power_loop.contracts.model import LLMRequest, LLMService, capabilities_of
from power_loop.contracts.notes import DEFAULT_NOTES_POLICY, NotesPolicy
from power_loop.contracts.tool import Toolbox

# A summariser that declares no window reads no more than this at once.
UNKNOWN_WINDOW_TOKENS = 64_000
# Estimates err; so much of a window is left free.
SPARE_PART = 8
LEAST_INPUT_TOKENS, LEAST_INPUT_CHARS = 500, 200


@dataclass(slots=True)
class FoldContext:
    """What a strategy may know and use."""

    session_id: str
    round_index: int
    representation: Any
    llm: LLMService
    """The model of the session. What it is called for here is charged, told, retried and cut off as a fold."""
    summary_llm: LLMService
    """The strategy's own ``summary_llm`` if it has one, else the same model; likewise."""
    tool_registry: Toolbox | None = None
    memory: Any = None
    """The memory provider of the session, if it has one."""
    max_tokens: int = 0
    """What a request may have."""
    current_tokens: int = 0
    """What it has now, estimated."""
    notes: Sequence[NoteRow] = ()
    """The notes of the session, with their numbers."""
    previous: str = ""
    """The summary of what was folded before; the new one takes its place."""
    notes_policy: NotesPolicy = DEFAULT_NOTES_POLICY

    async def summarise(self, rows: Sequence[ProjectMessageRow], *, max_tokens: int = 5000, prompt: str = SUMMARY_PROMPT) -> str:
        """The plain summary of ``rows`` and of ``previous``, by `summary_llm`; empty where it gave none. Raises what it raises."""
        return await self.by_pieces(rows, max_tokens, prompt, lambda text: self._asked(text, max_tokens, prompt))

    async def by_pieces(self, rows: Sequence[ProjectMessageRow], max_tokens: int, prompt: str, summarise: Callable[[str], Any]) -> str:
        """``await summarise(text)`` for piece after piece that the summariser can read, each with the summary so far in front."""
        summary = self.previous
        for text in self._pieces(rows, max_tokens, prompt):
            summary = await summarise(with_earlier(summary, text))
            if not summary:
                return ""
        return summary if rows else ""

    def request(self, messages: list[Message], prompt: str, max_tokens: int) -> LLMRequest:
        """A request of this fold, at temperature 0."""
        return LLMRequest(
            messages, system_prompt=prompt, temperature=0.0, max_tokens=max_tokens, reason="fold", session_id=self.session_id
        )  # fmt: skip

    async def _asked(self, text: str, max_tokens: int, prompt: str) -> str:
        return summary_in((await self.summary_llm.complete(self.request([{"role": "user", "content": text}], prompt, max_tokens))).text)

    def _pieces(self, rows: Sequence[ProjectMessageRow], max_tokens: int, prompt: str) -> Iterator[str]:
        texts = [text for row in rows for text in texts_of(row)]
        window = capabilities_of(self.summary_llm).context_window or UNKNOWN_WINDOW_TOKENS
        # Twice the summary: the one of the pieces before is read, and another one written.
        taken = 2 * min(max_tokens, window // 4) + estimate_text_tokens(prompt) + estimate_text_tokens(self.previous)
        tokens = max(LEAST_INPUT_TOKENS, window - taken) * (SPARE_PART - 1) // SPARE_PART
        # The text may hold scripts of which each character is a token.
        size, estimated = sum(map(len, texts)), sum(map(estimate_text_tokens, texts))
        yield from slices(texts, max(LEAST_INPUT_CHARS, tokens * size // max(1, estimated)))


def texts_of(row: ProjectMessageRow) -> list[str]:
    """The messages of one send, each as a text."""
    shown: Any = row.content
    if isinstance(shown, list) and all(isinstance(message, Mapping) for message in cast("list[Any]", shown)):
        return as_lines(cast("list[Message]", shown))
    return [row.rendered_text or str(cast("object", shown))]
