"""Running a sub-agent: a session of its own below the caller's, found again when the same call runs again.

The child's id is made of its parent's session and the call, so a call that is repeated after a crash goes on with the child
that it began. The child is driven by its parent's loop; the tools for models are in `tools`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from power_loop.contracts.agents import SPEC_NAME, AgentSpec, ChildRun, SubagentResult
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.children import child_id_of
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.rows import SessionKind, SessionRow, SubagentLifecycle
from power_loop.contracts.tool import Toolbox, ToolRun
from power_loop.runtime.cancel import end_of
from power_loop.runtime.tell import publish
from power_loop.tools.toolbox import ToolRegistry
from power_loop.words import content_said

if TYPE_CHECKING:
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.heartbeat import Heartbeat

# Of one session, the send that a sub-agent is: it has no other.
KEY = "spawn"
Tell = Callable[[str, Mapping[str, Any]], None]


class Drivers(Protocol):
    """What drives the sessions of a loop, as far as sub-agents need it."""

    @property
    def heartbeat(self) -> Heartbeat: ...

    def refuse_when_closed(self, verb: str) -> None: ...

    async def run_child(self, child: ChildRun) -> StatefulResult: ...

    async def answer(self, session_id: str, interaction_id: str, value: Any, key: str | None) -> None: ...

    async def retire(self, session_ids: Sequence[str]) -> None: ...


class Store(Protocol):
    """The store of a loop, as far as sub-agents need it."""

    max_spawn_depth: int

    async def create_session(self, **described: Any) -> str: ...

    async def get_session(self, session_id: str) -> SessionRow: ...

    async def family(self, session_id: str) -> list[str]: ...

    async def close_session(self, session_id: str, *, cascade: bool = True) -> int: ...


class Loop(Protocol):
    """A loop that can have sub-agents."""

    name: str
    deps: Any
    tool_registry: ToolRegistry | None
    event_bus: AgentEventBus

    @property
    def drivers(self) -> Drivers: ...

    async def ensure_store(self) -> Store: ...

    async def get_pending(self, session_id: str) -> dict[str, Any] | None: ...


@dataclass
class Under:
    """Where a sub-agent is begun: below which session, by which call, with which tools at most."""

    loop: Loop
    parent_session_id: str | None = None
    call_id: str | None = None
    key: str | None = None
    """Equal for the same call, whenever it runs; None begins a new child each time."""
    depth: int = 0
    tools: Toolbox | None = None
    cancel: CancellationToken | None = None
    deps: Any = None
    tell: Tell | None = None
    closes: list[str] = field(default_factory=list[str])
    """Sessions that may go once the result is stored."""

    @classmethod
    def call(cls, run: ToolRun) -> Under:
        """Below the session of a running tool call. Raises `RuntimeError` outside of a loop."""
        if run.loop is None or run.session_id is None:
            raise RuntimeError("sub-agents need a running loop; this ToolRun was made outside of one")
        return cls(
            run.loop, run.session_id, run.call_id, run.idempotency_key, run.depth, run.tools, run.cancel, run.deps, run.tell, run.closes
        )


async def run_agent_spec(
    spec: AgentSpec,
    user_input: Any,
    *,
    parent_loop: Any,
    spawn_tool_call_id: str | None = None,
    stop_event: CancellationLike = None,
    parent_session_id: str | None = None,
) -> SubagentResult:
    """Run ``spec`` on ``user_input`` in a session of its own; what it came to.

    It shares the loop's model, store, hooks and bus. With ``parent_session_id`` it hangs below that session, and the same
    ``spawn_tool_call_id`` again finds the child that it began. Raises `ToolNotFound` for tools that the loop does not have,
    `ValueError` for an unknown parent, `ValueError` and `TypeError` for what no send takes, and what a send raises.
    """
    if not isinstance(cast("Any", spec), AgentSpec):
        raise TypeError(f"spec= takes an AgentSpec, not {type(spec).__name__}; AgentSpec.from_json() reads a document")
    content, name = await content_said(user_input)  # before a session is made for it; files are read here, once
    said = user_input if isinstance(user_input, str) else {"content": content, "name": name}
    loop = cast("Loop", parent_loop)
    store = await loop.ensure_store()
    depth = (await store.get_session(parent_session_id)).spawn_depth if parent_session_id is not None else 0
    key = spawn_tool_call_id if parent_session_id is not None else None
    cancel = CancellationToken.from_any(stop_event) if stop_event is not None else None
    under = Under(loop, parent_session_id, spawn_tool_call_id, key, depth, loop.tool_registry, cancel, loop.deps)
    result = await run_under(under, spec, said)
    for gone in under.closes[:1]:  # nobody's result is stored that could take it along
        await store.close_session(gone)
    return result


async def run_under(under: Under, spec: AgentSpec, said: Any) -> SubagentResult:
    """Run ``spec`` as a child of ``under``; its outcome, also one that waits for somebody. ``said`` is what a send takes."""
    under.loop.drivers.refuse_when_closed("run_agent_spec")
    tools, depth = allowed(under.tools, spec.tools), under.depth + 1
    store = await under.loop.ensure_store()
    if depth > store.max_spawn_depth:
        text = f"The sub-agent {spec.name!r} was not begun: it would stand {depth} levels deep, and {store.max_spawn_depth} are allowed."
        return SubagentResult(None, "rejected", f"{text} Do the task yourself.", depth=depth)
    child_id = await found_or_made(under, store, spec)
    told = _Told(under, child_id, depth)
    told.start(spec, said)
    memory_of = await root_of(store, child_id) if spec.memory == "inherit" else None
    child = ChildRun(child_id, KEY, spec, said, tools, depth, under.cancel, under.deps, memory_of)
    try:
        result = await _apart(under.loop.drivers.run_child(child), under.cancel)
    except BaseException as error:
        told.broken_off("failed" if isinstance(error, Exception) else "cancelled")
        raise
    told.end(spec, result)
    return await _concluded(under, store, spec, result, depth)


def allowed(offered: Toolbox | None, wanted: Sequence[str] | None) -> ToolRegistry:
    """The tools of a sub-agent: those of its parent, or ``wanted`` of them. Raises `ToolNotFound` for others."""
    mine = offered if isinstance(offered, ToolRegistry) else ToolRegistry()
    return mine.subset(mine.names() if wanted is None else wanted)


async def found_or_made(under: Under, store: Store, spec: AgentSpec) -> str:
    """The session of this child. Raises `ValueError` for a parent that is not there.

    Raises `SessionLeaseLost` when somebody else drives the parent by now: the child may have ended there, and be gone.
    """
    epoch = under.loop.drivers.heartbeat.epoch_of(under.parent_session_id) if under.parent_session_id else None
    child_id = child_id_of(under.parent_session_id, under.key) if under.key is not None and under.parent_session_id else None
    if child_id is not None:
        try:
            return (await store.get_session(child_id)).session_id
        except SessionNotFoundError:
            pass  # not begun yet
    return await store.create_session(
        session_id=child_id, system_prompt=spec.system_prompt, model=spec.model, parent_session_id=under.parent_session_id,
        spawn_tool_call_id=under.call_id, kind=SessionKind.SUBAGENT, lifecycle=spec.lifecycle, agent=under.loop.name,
        metadata={**spec.metadata, SPEC_NAME: spec.name}, parent_epoch=epoch,
    )  # fmt: skip


async def root_of(store: Store, session_id: str) -> str:
    """The topmost session above this one: its memory is what is inherited."""
    while (parent := (await store.get_session(session_id)).parent_session_id) is not None:
        session_id = parent
    return session_id


async def _apart(work: Any, cancel: CancellationToken | None) -> StatefulResult:
    """``work`` in a task of its own: a parent that stops tells the child, and waits until it has stopped in good order."""
    task: asyncio.Task[StatefulResult] = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if cancel is None or not cancel.is_cancelled():  # whoever runs us goes away: the child is cut off, and can go on
            task.cancel()
        await end_of(task)
        raise


async def _concluded(under: Under, store: Store, spec: AgentSpec, result: StatefulResult, depth: int) -> SubagentResult:
    gone = spec.lifecycle == SubagentLifecycle.EPHEMERAL and result.status == "completed"
    if gone:
        under.closes += await store.family(result.session_id)
        await under.loop.drivers.retire(under.closes)
    kept = None if gone else result.session_id
    return SubagentResult(
        kept, result.status, result.final_text, result.rounds, depth, result.usage, result.output, result.error
    )  # fmt: skip


class _Told:
    """What listeners of the parent hear of the child."""

    def __init__(self, under: Under, child_id: str, depth: int) -> None:
        self._tell = under.tell or partial(_say, under)
        self._child_id, self._depth, self._call_id = child_id, depth, under.call_id

    def start(self, spec: AgentSpec, said: Any) -> None:
        told = {"preset": spec.name, "sub_session_id": self._child_id, "depth": self._depth, "tool_call_id": self._call_id}
        self._tell("subagent_task_start", {"task": said if isinstance(said, str) else "", **told})

    def end(self, spec: AgentSpec, result: StatefulResult) -> None:
        told = {"sub_session_id": self._child_id, "status": result.status, "rounds": result.rounds, "final_text": result.final_text}
        if result.final_text:
            self._tell("subagent_task_text", told)
        if result.status == "hit_round_limit":
            self._tell("subagent_task_limit", {"sub_session_id": self._child_id, "max_rounds": spec.max_rounds})
        self._tell("subagent_task_completed", told)

    def broken_off(self, status: str) -> None:
        self._tell("subagent_task_completed", {"sub_session_id": self._child_id, "status": status, "rounds": 0, "final_text": ""})


def _say(under: Under, type_: str, told: Mapping[str, Any]) -> None:
    """Outside of a send, the session above speaks for itself."""
    bus = under.loop.event_bus
    if under.parent_session_id is not None and bus.wants(type_):
        publish(bus, type_, dict(told), session_id=under.parent_session_id, source="subagent")
