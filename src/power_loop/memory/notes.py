"""`NoteMemory`: the session's own notes, recalled as they stand. Keeping them is the business of the store and the note tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from power_loop.contracts.kept_rows import NoteRow
from power_loop.contracts.memory import MemorySnapshot
from power_loop.contracts.messages import Message, estimate_text_tokens
from power_loop.contracts.notes import DEFAULT_NOTES_POLICY, NotesPolicy, render_notes

HEADER = "Notes that you keep in this session (in brackets: the number to update or delete one by):"
NAME = "memory_notes"

# Room for the header and what a message costs beside its text.
FRAME_TOKENS = 32


class NoteStore(Protocol):
    """Where notes are; a `SessionStore` is one."""

    async def list_notes(self, session_id: str) -> list[NoteRow]: ...


class NoteMemory:
    """Recalls a session's own notes, within the policy's characters and the tokens of the request; pinned ones always."""

    policy: NotesPolicy
    store: NoteStore

    def __init__(self, store: NoteStore, *, policy: NotesPolicy = DEFAULT_NOTES_POLICY) -> None:
        self.store, self.policy = store, policy

    async def recall(self, *, messages: Sequence[Message], session_id: str, budget_tokens: int = 1500) -> list[Message]:
        """One message with the notes, oldest first; none without notes. Raises `SessionNotFoundError`."""
        notes = await self.store.list_notes(session_id)
        if not notes:
            return []
        text = self._within(notes, max(1, budget_tokens - FRAME_TOKENS))
        return [{"role": "system", "name": NAME, "content": f"{HEADER}\n{text}"}]

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        """Notes are written by the tools, while a send runs."""

    def _within(self, notes: Sequence[NoteRow], tokens: int) -> str:
        """As many notes as ``tokens`` have room for; how many characters that is depends on the script."""
        policy = self.policy
        text = render_notes(notes, policy=policy)
        while (estimated := estimate_text_tokens(text)) > tokens:
            room = min(len(text), policy.inject_max_chars) * tokens // estimated
            if not 0 < room < policy.inject_max_chars:
                break
            policy = replace(policy, inject_max_chars=room)
            fewer = render_notes(notes, policy=policy)
            if fewer == text and room == 1:
                break
            text = fewer
        return text


SQLiteNoteMemory = NoteMemory
"""Its name in the 3.x line. Notes are kept on every engine."""
