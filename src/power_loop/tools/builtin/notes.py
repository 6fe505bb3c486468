"""The tools ``note_add``, ``note_update`` and ``note_delete``: what the agent wants to remember of this session.

How many notes there may be, and how long, the store decides for every writer. Showing them is the business of the memory.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec

from power_loop.contracts.errors import NotesFullError
from power_loop.contracts.kept_rows import NoteRow
from power_loop.contracts.notes import NotesPolicy
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed

P = ParamSpec("P")
Handler = Callable[Concatenate[ToolRun, P], Awaitable[ToolHandlerResult]]

_ID = {"type": "integer", "minimum": 1, "description": "The number that note_add gave"}
_CONTENT = {"type": "string", "minLength": 1, "description": "One fact, decision or preference; short"}
_PINNED = {"type": "boolean", "description": "Never hidden or given up to make room. false by default"}


def about_add(args: Mapping[str, Any], result: str | None) -> str:
    return f"note_add: {' '.join(str(args.get('content', '')).split())[:120]}"


def about_change(args: Mapping[str, Any], result: str | None) -> str:
    return result.partition("\n")[0][:160] if result else f"note {args.get('note_id')}"


def _definition(name: str, text: str, properties: dict[str, Any], required: str, project: Callable[..., str]) -> ToolDefinition:
    schema = {"type": "object", "properties": properties, "required": [required], "additionalProperties": False}
    return ToolDefinition(name, text, schema, project=project, effects="idempotent")


DEFINITIONS = (
    _definition(
        "note_add",
        "Remember something for the rest of this session, also when older messages are folded away. Gives the number of the note.",
        {"content": _CONTENT, "pinned": _PINNED},
        "content",
        about_add,
    ),
    _definition(
        "note_update",
        "Change a note of this session: its content, whether it is pinned, or both. What is not given stays.",
        {"note_id": _ID, "content": _CONTENT, "pinned": _PINNED},
        "note_id",
        about_change,
    ),
    _definition("note_delete", "Forget a note of this session.", {"note_id": _ID}, "note_id", about_change),
)


def told(handler: Handler[P]) -> Handler[P]:
    """The handler, with what the notes refuse told to the model."""

    @functools.wraps(handler)
    async def guarded(run: ToolRun, *args: P.args, **kwargs: P.kwargs) -> ToolHandlerResult:
        if not run.has_session_store:
            return failed("There is no session here that could keep notes.")
        try:
            return await handler(run, *args, **kwargs)
        except NotesFullError:
            return failed(f"There is no room for another note. Update or delete one of these first:\n{await _listed(run)}")
        except ValueError as error:
            return failed(f"{str(error).capitalize()}. Say it shorter, or in several notes.")

    return guarded


@told
async def note_add(run: ToolRun, content: str, pinned: bool = False) -> ToolHandlerResult:
    note = await run.store.add_note(run.session_id, content, pinned=pinned, policy=policy_of(run), key=run.idempotency_key or None)
    return ToolHandlerResult(True, f"Note {note.note_id} is kept{', pinned' if note.pinned else ''}.", {"note_id": note.note_id})


@told
async def note_update(run: ToolRun, note_id: int, content: str | None = None, pinned: bool | None = None) -> ToolHandlerResult:
    if content is None and pinned is None:
        return failed(f"Nothing was changed in note {note_id}: give content, pinned, or both.")
    note = await run.store.update_note(run.session_id, note_id, content=content, pinned=pinned, policy=policy_of(run))
    if note is None:
        return await _no_such(run, note_id)
    return ToolHandlerResult(True, f"Note {_line(note)}", {"note_id": note_id})


@told
async def note_delete(run: ToolRun, note_id: int) -> ToolHandlerResult:
    if await run.store.delete_note(run.session_id, note_id) or await _was_there(run, note_id):
        return ToolHandlerResult(True, f"Note {note_id} is deleted.", {"note_id": note_id})
    return await _no_such(run, note_id)


def policy_of(run: ToolRun) -> NotesPolicy | None:
    """That of the loop; None outside of one, where the store has its own."""
    return run.config.recall.notes if run.config is not None else None


async def _was_there(run: ToolRun, note_id: int) -> bool:
    """A call that is repeated after a crash finds its note gone: numbers are never used twice, so a smaller one was there."""
    return note_id < (await run.store.next_note_id(run.session_id))


async def _no_such(run: ToolRun, note_id: int) -> ToolHandlerResult:
    return failed(f"There is no note {note_id} in this session. There are:\n{await _listed(run)}")


async def _listed(run: ToolRun) -> str:
    notes: list[NoteRow] = await run.store.list_notes(run.session_id)
    return "\n".join(_line(note, 80) for note in notes) or "none"


def _line(note: NoteRow, room: int | None = None) -> str:
    text = " ".join(note.content.split())
    short = text if room is None or len(text) <= room else text[: room - 1] + "…"
    return f"{note.note_id}{' (pinned)' if note.pinned else ''}: {short}"


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"note_add": note_add, "note_update": note_update, "note_delete": note_delete}
