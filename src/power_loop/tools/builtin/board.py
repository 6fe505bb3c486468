"""The tools ``board_read``, ``board_post``, ``board_update`` and ``board_remove``: a blackboard that several agents share.

Which board, the environment of the call says: ``RuntimeEnv(blackboard=…, blackboard_id=…)``. Every write answers with the
whole board, so that nobody goes on from an old one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec

from power_loop.contracts.boards import Blackboard, render_entries
from power_loop.contracts.errors import BlackboardError
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import failed
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.toolbox import ToolRegistry

P = ParamSpec("P")

NOWHERE = "There is no board here: nobody has set one up for this agent."
_ID = {"type": "integer", "minimum": 1, "description": "The number of the entry"}
_TEXT = {"type": "string", "minLength": 1, "description": "What the others shall know; short"}


class Place(NamedTuple):
    """The board of a call."""

    board: Blackboard
    board_id: str


def about(args: Mapping[str, Any], result: str | None) -> str:
    return result.partition("\n")[0][:160] if result else "the board"


def register_blackboard_tools(
    registry: ToolRegistry, *, kinds: Sequence[str] = ("note", "task"), statuses: Sequence[str] = ("open", "doing", "done"),
    default_kind: str = "note", overwrite: bool = False,
) -> None:  # fmt: skip
    """Offer the four tools in ``registry``. ``kinds`` and ``statuses`` are what entries may be; new ones have the first status.

    Raises `ValueError` for a name that is taken (unless ``overwrite``), and where ``default_kind`` is none of ``kinds``.
    """
    if not statuses or default_kind not in kinds:
        raise ValueError(f"register_blackboard_tools needs a status, and default_kind={default_kind!r} among {list(kinds)}")
    tools = BoardTools(default_kind, statuses[0])
    handlers = {"board_read": read, "board_post": tools.post, "board_update": update, "board_remove": remove}
    for definition in _definitions(kinds, statuses):
        registry.register(definition, on_the_board(handlers[definition.name]), overwrite=overwrite)


def _definitions(kinds: Sequence[str], statuses: Sequence[str]) -> list[ToolDefinition]:
    kind = {"type": "string", "enum": list(kinds)}
    status = {"type": "string", "enum": list(statuses)}
    return [
        _definition("board_read", "Read the board that you share with other agents.", {}, [], "pure"),
        _definition(
            "board_post", "Put an entry on the shared board. Answers with the whole board.",
            {"text": _TEXT, "kind": kind, "status": status}, ["text"],
        ),
        _definition(
            "board_update", "Change an entry of the shared board: its text, its status, or both. Answers with the whole board.",
            {"entry_id": _ID, "text": _TEXT, "status": status}, ["entry_id"],
        ),
        _definition("board_remove", "Take an entry off the shared board. Answers with the whole board.", {"entry_id": _ID}, ["entry_id"]),
    ]  # fmt: skip


def _definition(name: str, text: str, properties: dict[str, Any], required: list[str], effects: str = "idempotent") -> ToolDefinition:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return ToolDefinition(name, text, schema, project=about, effects="pure" if effects == "pure" else "idempotent")


def on_the_board(handler: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[ToolHandlerResult]]:
    """The handler on the board of its call; what the board refuses is told to the model, with the board as it is."""

    async def called(run: ToolRun, **args: Any) -> ToolHandlerResult:
        if (place := place_of(run)) is None:
            return failed(NOWHERE)
        try:
            said = await handler(run, place, **args)
        except BlackboardError as error:
            said = str(error)
            return failed(f"{said[:1].upper()}{said[1:]}.\n{await _shown(place)}")
        return ToolHandlerResult(True, f"{said}\n{await _shown(place)}" if said else await _shown(place))

    return called


def place_of(run: ToolRun) -> Place | None:
    """The board of the call's environment; None where there is none."""
    env = run.env
    if not isinstance(env, RuntimeEnv) or env.blackboard is None or not env.blackboard_id:
        return None
    return Place(env.blackboard, env.blackboard_id)


async def _shown(place: Place) -> str:
    entries = await place.board.read(place.board_id)
    return render_entries(entries, header=f"The board has {len(entries)} {'entry' if len(entries) == 1 else 'entries'}:")


async def read(run: ToolRun, place: Place) -> str:
    return ""


class BoardTools:
    """What a registry settled for new entries."""

    def __init__(self, kind: str, status: str) -> None:
        self._kind, self._status = kind, status

    async def post(self, run: ToolRun, place: Place, text: str, kind: str | None = None, status: str | None = None) -> str:
        entry = await place.board.post(
            place.board_id, text, kind=kind or self._kind, status=status or self._status, author=await author_of(run),
            key=run.idempotency_key or None,
        )  # fmt: skip
        return f"Entry {entry.id} is on the board."


async def update(run: ToolRun, place: Place, entry_id: int, text: str | None = None, status: str | None = None) -> str:
    if text is None and status is None:
        raise BlackboardError(f"nothing was changed in entry {entry_id}: give text, status, or both")
    await place.board.update(place.board_id, entry_id, text=text, status=status)
    return f"Entry {entry_id} is changed."


async def remove(run: ToolRun, place: Place, entry_id: int) -> str:
    # Gone is gone: a call that is repeated after a crash says the same.
    await place.board.remove(place.board_id, entry_id)
    return f"Entry {entry_id} is not on the board any more."


async def author_of(run: ToolRun) -> str:
    """Who writes: the name of the sub-agent's spec, else the session's name, else its id."""
    if not run.has_session_store:
        return ""
    metadata: Mapping[str, Any] = (await run.store.get_session(run.session_id)).metadata or {}
    named = next((metadata[name] for name in ("agent_spec", "name") if isinstance(metadata.get(name), str) and metadata[name]), None)
    return named or run.session_id or ""
