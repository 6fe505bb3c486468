"""Blackboards: short entries that several agents read and change, and how a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class BlackboardEntry(NamedTuple):
    """One entry; times in ms, UTC."""

    id: int
    """Counted from 1 on each board, and never given to another entry."""
    text: str
    kind: str
    status: str
    author: str
    created_at: int
    updated_at: int


@runtime_checkable
class Blackboard(Protocol):
    """Boards by id. Whoever writes sees what everybody wrote before; bounds refuse, nothing is cut."""

    async def read(self, board_id: str) -> list[BlackboardEntry]:
        """Oldest first; empty for a board that nobody has written on."""
        ...

    async def post(
        self, board_id: str, text: str, *, kind: str = "note", status: str = "open", author: str = "", key: str | None = None
    ) -> BlackboardEntry:
        """A new entry; where one stands that was posted with this ``key``, that one. Raises `BlackboardError`."""
        ...

    async def update(self, board_id: str, entry_id: int, *, text: str | None = None, status: str | None = None) -> BlackboardEntry:
        """The entry as it is now; what is not given stays. Raises `BlackboardError`, also where there is no such entry."""
        ...

    async def remove(self, board_id: str, entry_id: int) -> bool:
        """False when there was no such entry."""
        ...


def render_entries(entries: Sequence[BlackboardEntry], *, header: str = "The board:", empty: str = "The board is empty.") -> str:
    """The entries as a model reads them: ``header`` and one line each, or ``empty``."""
    if not entries:
        return empty
    return "\n".join([header, *(f"#{entry.id} [{entry.kind}, {entry.status}]{_by(entry)} {_one_line(entry.text)}" for entry in entries)])


def _by(entry: BlackboardEntry) -> str:
    return f" {_one_line(entry.author)}:" if entry.author else ""


def _one_line(text: str) -> str:
    """Further lines stand indented, so that no text can look like another entry."""
    return "\n  ".join(text.splitlines())
