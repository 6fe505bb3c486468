"""What a loop offers over MCP: its sessions as tools, and the tools that it has itself. The protocol is spoken elsewhere.

A caller is an owner: a name that the host vouches for. It stands in the metadata of every session that is opened here, and an
owner sees those sessions alone; a session of somebody else is as unknown as one that never was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from inspect import isawaitable
from typing import Any, Protocol

from power_loop.contracts.agents import SPEC_NAME
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import HumanInputRequired, ModelRetry, PowerLoopError, SessionNotFoundError, ToolNotFound
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.redact import redact_text
from power_loop.contracts.results import Rendered, render_result
from power_loop.contracts.rows import SessionKind, SessionRow
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.bound import BoundTool
from power_loop.tools.toolbox import ToolRegistry

# Under this key stands, in a session's metadata, for whom it was opened.
OWNER = "mcp_owner"
LISTED = 100

_SESSION = {"type": "string", "description": "Which conversation, as returned by an earlier call"}


class Served(Protocol):
    """What is asked of a loop."""

    @property
    def tool_registry(self) -> ToolRegistry | None: ...

    async def ensure_store(self) -> Any: ...

    async def new_session(self, *, metadata: Mapping[str, Any] | None = None, session_id: str | None = None) -> str: ...

    async def send(
        self, user_input: Any, session_id: str, *, key: str | None = None, stop_event: CancellationToken | None = None
    ) -> StatefulResult: ...

    async def submit_input(
        self, session_id: str, interaction_id: str, value: Any, *, stop_event: CancellationToken | None = None
    ) -> StatefulResult: ...

    async def get_messages(self, session_id: str) -> list[dict[str, Any]]: ...


SEND = ToolDefinition(
    "send",
    "Say something to the agent and wait for its answer. Without session_id a new conversation begins; the answer names it.",
    {
        "type": "object",
        "properties": {
            "message": {"type": "string", "minLength": 1},
            "session_id": _SESSION,
            "key": {"type": "string", "minLength": 1, "description": "The same key again returns the first outcome and does nothing"},
        },
        "required": ["message"],
        "additionalProperties": False,
    },
)
ANSWER = ToolDefinition(
    "answer",
    "Answer a question that a conversation waits with; it goes on with the answer.",
    {
        "type": "object",
        "properties": {"session_id": _SESSION, "interaction_id": {"type": "string"}, "value": {"description": "Text, or JSON"}},
        "required": ["session_id", "interaction_id", "value"],
        "additionalProperties": False,
    },
)
LIST = ToolDefinition("list_sessions", "The conversations that were begun here, the newest first.", effects="pure")
READ = ToolDefinition(
    "read_session",
    "What was said in one conversation so far.",
    {"type": "object", "properties": {"session_id": _SESSION}, "required": ["session_id"], "additionalProperties": False},
    effects="pure",
)


class Exposed:
    """The tools that a loop offers to others, each called for an owner."""

    def __init__(self, loop: Served, *, expose: Sequence[str] = ("send", "sessions"), tools: bool = False) -> None:
        self._loop = loop
        groups = {"send": [(SEND, self._send), (ANSWER, self._answer)], "sessions": [(LIST, self._list), (READ, self._read)]}
        if unknown := sorted(set(expose) - set(groups)):
            raise ValueError(f"expose={unknown}: there are {', '.join(groups)}")
        self._own = ToolRegistry([each for group in groups if group in expose for each in groups[group]])
        self._tools = tools
        self._sending: set[asyncio.Task[StatefulResult]] = set()
        if taken := sorted(set(self._own.names()) & set(self._lent())):
            raise ValueError(f"the loop has tools named {', '.join(taken)}, as this server has; rename them, or leave them out")

    def definitions(self) -> list[ToolDefinition]:
        """Sorted by name."""
        lent = self._lent()
        return sorted([*self._own.definitions(), *(bound.definition for bound in lent.values())], key=lambda each: each.name)

    async def call(self, owner: str, name: str, arguments: Mapping[str, Any]) -> Rendered:
        """``(content, failed, data)``. Whatever goes wrong is a failed result that says so."""
        own = self._own.get(name)
        bound = own or self._lent().get(name)
        try:
            if bound is None:
                raise ToolNotFound(name, known=[each.name for each in self.definitions()])
            if (violations := bound.violations(arguments)) is not None:
                return f"Error: the arguments of {name} are invalid.\n{violations}", True, None
            run = ToolRun(tool_name=name, deps=owner) if own is not None else ToolRun(tool_name=name)
            return render_result(await _called(bound, run, arguments))
        except HumanInputRequired as asked:
            return f"Error: {name} asks a person ({asked.prompt}); it can be called in a conversation only", True, None
        except ModelRetry as asked:
            return asked.message, True, None
        except PowerLoopError as error:
            return redact_text(f"Error: {error.code}: {error}"), True, None
        except Exception as error:  # the tool's own code
            return redact_text(f"Error: {type(error).__name__}: {error}"), True, None

    def _lent(self) -> dict[str, BoundTool]:
        """The loop's own tools, as far as they may be called outside of a conversation: none that somebody has to approve."""
        registry = self._loop.tool_registry if self._tools else None
        if registry is None:
            return {}
        found = {name: registry.get(name) for name in registry.names()}
        return {name: bound for name, bound in found.items() if bound is not None and bound.definition.needs_approval is False}

    # --- conversations -------------------------------------------------------------------------------------

    async def _send(self, run: ToolRun, message: str, session_id: str | None = None, key: str | None = None) -> ToolHandlerResult:
        session = await self._new(run.deps, key) if session_id is None else await self._of(run.deps, session_id)
        return await self._watched(lambda stop: self._loop.send(message, session, key=key, stop_event=stop))

    async def _answer(self, run: ToolRun, session_id: str, interaction_id: str, value: Any) -> ToolHandlerResult:
        session = await self._of(run.deps, session_id)
        return await self._watched(lambda stop: self._loop.submit_input(session, interaction_id, value, stop_event=stop))

    async def _list(self, run: ToolRun) -> list[dict[str, Any]]:
        store = await self._loop.ensure_store()
        rows = [row for row in await store.list_sessions(kind=SessionKind.ROOT, metadata={OWNER: run.deps}, limit=LISTED) if _is_ours(row)]
        return [{"session_id": row.session_id, "created_at": row.created_at, "updated_at": row.updated_at} for row in rows]

    async def _read(self, run: ToolRun, session_id: str) -> ToolHandlerResult:
        messages = await self._loop.get_messages(await self._of(run.deps, session_id))
        lines = [f"{message['role']}: {message['content'] or '(calls a tool)'}" for message in messages]
        return ToolHandlerResult(True, "\n".join(lines), {"session_id": session_id, "messages": messages})

    async def _new(self, owner: str, key: str | None) -> str:
        """A new session; with a ``key`` that the owner used before, the one that was begun under it: its answer may have been lost."""
        if key is None:
            return await self._loop.new_session(metadata={OWNER: owner})
        session_id = "mcp_" + sha256(dumps([owner, key]).encode()).hexdigest()[:24]
        with suppress(ValueError):  # it was begun before
            await self._loop.new_session(metadata={OWNER: owner}, session_id=session_id)
        return await self._of(owner, session_id)

    async def _of(self, owner: str, session_id: str) -> str:
        """``session_id``, if it is the owner's. Raises `SessionNotFoundError`."""
        store = await self._loop.ensure_store()
        row = await store.get_session(session_id)
        if row.metadata.get(OWNER) != owner or not _is_ours(row):
            raise SessionNotFoundError(session_id)
        return session_id

    async def _watched(self, sending: Callable[[CancellationToken], Awaitable[StatefulResult]]) -> ToolHandlerResult:
        """The send's outcome. A caller that gives up stops the send tidily: it ends as cancelled, with all calls answered."""
        stop = CancellationToken()

        async def run() -> StatefulResult:
            return await sending(stop)

        task = asyncio.create_task(run())
        self._sending.add(task)
        task.add_done_callback(self._forget)
        try:
            return told(await asyncio.shield(task))
        except asyncio.CancelledError:
            stop.cancel("the MCP client cancelled")
            raise

    def _forget(self, task: asyncio.Task[StatefulResult]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited was told; nobody waits for a send that was given up

    async def drain(self) -> None:
        """Wait for the sends that were given up."""
        if self._sending:
            await asyncio.wait(self._sending)


def _is_ours(row: SessionRow) -> bool:
    """Begun here: a model may write the metadata of a sub-agent, which becomes a root when its parent goes."""
    return row.kind == SessionKind.ROOT and SPEC_NAME not in row.metadata


def told(result: StatefulResult) -> ToolHandlerResult:
    """An outcome for someone outside: the answer, what it waits for, and which conversation it was."""
    asked = [
        {name: question.get(name) for name in ("interaction_id", "kind", "prompt", "options")} for question in result.pending_interactions
    ]
    lines = [result.final_text] if result.final_text else []
    if result.status != "completed":
        lines.append(f"[{result.status}]")
    lines += [f"[waits for an answer to {question['interaction_id']}: {question['prompt']}]" for question in asked]
    data = {
        "session_id": result.session_id, "status": result.status, "final_text": result.final_text, "send_index": result.send_index,
        "rounds": result.rounds, "pending_interactions": asked, "error": result.error,
    }  # fmt: skip
    said = [{"type": "text", "text": "\n".join(lines)}, {"type": "text", "text": f"[session {result.session_id}]"}]
    return ToolHandlerResult(result.status in ("completed", "waiting_for_input"), said, data)


async def _called(bound: BoundTool, run: ToolRun, arguments: Mapping[str, Any]) -> Any:
    """A synchronous handler runs in a thread: other callers are served meanwhile."""
    async with asyncio.timeout(bound.definition.timeout_s):
        if bound.is_async:
            return await bound.call(run, arguments)
        value = await asyncio.to_thread(bound.call, run, arguments)
        return await value if isawaitable(value) else value
