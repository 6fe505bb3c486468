"""How many notes a session keeps, how long they may be, and how a model reads them. One policy holds for every writer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from power_loop.contracts.kept_rows import NoteRow


@dataclass(frozen=True)
class NotesPolicy:
    """The bounds of a session's notes. Pinned ones are never evicted and never hidden."""

    max_notes: int = 50
    max_note_chars: int = 1000
    inject_max_chars: int = 8000
    """How many characters of notes a request shows."""
    eviction: Literal["reject", "fifo"] = "reject"
    """A note too many is refused, or the oldest one that is not pinned makes room for it."""

    def __post_init__(self) -> None:
        for name in ("max_notes", "max_note_chars", "inject_max_chars"):
            value: Any = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"NotesPolicy.{name} is {value!r}; it must be a whole number of at least 1")
        if self.eviction not in ("reject", "fifo"):
            raise ValueError(f"NotesPolicy.eviction is {self.eviction!r}; it must be 'reject' or 'fifo'")

    def fault_in(self, content: str) -> str | None:
        """What is wrong with a note of this ``content``; None when it may be kept."""
        if content.strip() and len(content) <= self.max_note_chars:
            return None
        return f"a note has 1 to {self.max_note_chars} characters, not {len(content)}"

    def evicted(self, pinned: Sequence[bool]) -> list[int] | None:
        """Which notes make room for one more, by place, oldest first; None when there is no room. ``pinned``: of each, oldest first."""
        too_many = len(pinned) + 1 - self.max_notes
        if too_many <= 0:
            return []
        free = [place for place, held in enumerate(pinned) if not held]
        return free[:too_many] if self.eviction == "fifo" and len(free) >= too_many else None


DEFAULT_NOTES_POLICY = NotesPolicy()


def render_notes(notes: Iterable[NoteRow], *, policy: NotesPolicy = DEFAULT_NOTES_POLICY) -> str:
    """The notes as a model reads them, oldest first; empty without any.

    All pinned ones, then the newest of the others, as far as ``inject_max_chars`` has room; one line counts those that are hidden.
    """
    rows = list(notes)
    lines = {note.note_id: f"- [{note.note_id}]{' (pinned)' if note.pinned else ''} {_indented(note.content)}" for note in rows}
    shown = {note.note_id for note in rows if note.pinned}
    room = policy.inject_max_chars - sum(len(lines[each]) + 1 for each in shown)
    for note in reversed(rows):
        if note.pinned:
            continue
        room -= len(lines[note.note_id]) + 1
        if room < 0:
            break
        shown.add(note.note_id)
    hidden = len(rows) - len(shown)
    more = [f"({hidden} older {'note is' if hidden == 1 else 'notes are'} not shown)"] if hidden else []
    return "\n".join([*more, *(lines[note.note_id] for note in rows if note.note_id in shown)])


def _indented(content: str) -> str:
    return content.strip().replace("\n", "\n  ")
