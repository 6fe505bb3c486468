"""Notes of a session: one small value beside it, changed by compare-and-set, so that its bounds hold for every writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from power_loop.contracts.errors import NotesFullError
from power_loop.contracts.kept_rows import NoteRow
from power_loop.contracts.notes import DEFAULT_NOTES_POLICY, NotesPolicy
from power_loop.store.log import RecordLog
from power_loop.store.values import MUTATE_SKIP, Values

# Beside whatever a host keeps under names of its own.
NOTES_KEY = "power_loop:notes"

T = TypeVar("T")
Value = dict[str, Any]


class Notes(RecordLog, Values):
    """What the agent wants to remember, in the order in which it was written."""

    notes_policy: NotesPolicy = DEFAULT_NOTES_POLICY
    """What holds for every writer that brings no policy of its own. A loop that was configured with one sets it."""

    async def add_note(
        self, session_id: str, content: str, *, pinned: bool = False, policy: NotesPolicy | None = None, key: str | None = None
    ) -> NoteRow:
        """A new note; where one was added with this ``key`` before, it is given back as it is.

        Raises `NotesFullError` when there is no room and none may be made, `ValueError` for an empty or too long one,
        `SessionNotFoundError`.
        """
        await self.look(session_id)
        policy = policy or self.notes_policy
        text, now = _checked(content, policy), self._clock.now_ms()

        def add(value: Value) -> tuple[Value | None, Value]:
            if (before := next((note for note in value["notes"] if key is not None and note.get("key") == key), None)) is not None:
                return None, before
            kept = _with_room(session_id, value["notes"], policy)
            note = {"id": value["next"], "content": text, "pinned": pinned, "created_at": now, "updated_at": now}
            if key is not None:
                note["key"] = key
            return {"next": value["next"] + 1, "notes": [*kept, note]}, note

        return _row(session_id, await self._change_notes(session_id, add))

    async def update_note(
        self, session_id: str, note_id: int, *, content: str | None = None, pinned: bool | None = None, policy: NotesPolicy | None = None
    ) -> NoteRow | None:
        """The note as it is now; None when there is no such note. What is not given stays."""
        await self.look(session_id)
        text, now = None if content is None else _checked(content, policy or self.notes_policy), self._clock.now_ms()

        def update(value: Value) -> tuple[Value | None, Value | None]:
            old = next((note for note in value["notes"] if note["id"] == note_id), None)
            if old is None:
                return None, None
            new = {**old, "content": old["content"] if text is None else text, "updated_at": now}
            new["pinned"] = old["pinned"] if pinned is None else pinned
            return {**value, "notes": [new if note is old else note for note in value["notes"]]}, new

        changed = await self._change_notes(session_id, update)
        return None if changed is None else _row(session_id, changed)

    async def delete_note(self, session_id: str, note_id: int) -> bool:
        """False when there was no such note."""
        await self.look(session_id)

        def delete(value: Value) -> tuple[Value | None, bool]:
            left = [note for note in value["notes"] if note["id"] != note_id]
            return (None, False) if len(left) == len(value["notes"]) else ({**value, "notes": left}, True)

        return await self._change_notes(session_id, delete)

    async def list_notes(self, session_id: str) -> list[NoteRow]:
        """Oldest first. Raises `SessionNotFoundError`."""
        await self.look(session_id)
        value = await self.get_runtime_state(session_id, NOTES_KEY, notes_value(()))
        return [_row(session_id, note) for note in value["notes"]]

    async def next_note_id(self, session_id: str) -> int:
        """The number of the next note; every number below was given once, and is given to no other note."""
        return (await self.get_runtime_state(session_id, NOTES_KEY, notes_value(())))["next"]

    async def count_notes(self, session_id: str) -> int:
        return len(await self.list_notes(session_id))

    async def _change_notes(self, session_id: str, change: Callable[[Value], tuple[Value | None, T]]) -> T:
        """``change`` gives (the new value or None to leave it, what to answer)."""
        told: list[T] = []

        def mutate(value: Value) -> Any:
            new, answer = change(value)
            told[:] = [answer]
            return MUTATE_SKIP if new is None else new

        await self.mutate_runtime_state(session_id, NOTES_KEY, mutate, default=notes_value(()))
        return told[0]


def notes_value(rows: Sequence[Mapping[str, Any]]) -> Value:
    """The stored value for ``rows``, which have the fields of `NoteRow`; they are numbered anew."""
    notes = [
        {
            "id": number,
            "content": str(row.get("content", "")),
            "pinned": bool(row.get("pinned")),
            "created_at": row.get("created_at") or 0,
            "updated_at": row.get("updated_at") or 0,
        }
        for number, row in enumerate(rows, 1)
    ]
    return {"next": len(notes) + 1, "notes": notes}


def _checked(content: str, policy: NotesPolicy) -> str:
    if not isinstance(cast("Any", content), str):
        raise TypeError(f"a note is text, not {type(content).__name__}")
    if (fault := policy.fault_in(content)) is not None:
        raise ValueError(fault)
    return content


def _with_room(session_id: str, notes: Sequence[Value], policy: NotesPolicy) -> list[Value]:
    """``notes`` with room for one more. Raises `NotesFullError`."""
    gone = policy.evicted([note["pinned"] for note in notes])
    if gone is None:
        held = "" if policy.eviction == "reject" else ", and too many of them are pinned to make room"
        raise NotesFullError(f"session {session_id!r} has {len(notes)} notes already{held}: update or delete one of them")
    return [note for place, note in enumerate(notes) if place not in gone]


def _row(session_id: str, note: Value) -> NoteRow:
    return NoteRow(session_id, note["id"], note["content"], note["pinned"], note["created_at"], note["updated_at"])
