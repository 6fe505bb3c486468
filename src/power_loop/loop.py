"""The door: `StatefulAgentLoop` joins a model, tools and a store, and drives durable sessions.

Every verb ends in the same place: take the lease, read the records, decide, perform, commit. What is kept here
is cache; a session continues from the DSN and its id alone. What the verbs do stands in `verbs`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from power_loop.config import AgentLoopConfig
from power_loop.session_verbs import SessionVerbs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
    from typing import Unpack

    from power_loop.contracts.approvals import Approval
    from power_loop.contracts.cancel import CancellationLike, CancellationToken
    from power_loop.contracts.events import AgentEvent
    from power_loop.contracts.outcome import FollowUpQueued, StatefulResult
    from power_loop.contracts.records import UnknownPolicy
    from power_loop.contracts.store import InboxItem, SchemaPolicy
    from power_loop.contracts.usage import UsageLimits
    from power_loop.drivers import Drivers
    from power_loop.parameters import SendParameters, StreamParameters
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.hooks import AgentHooks
    from power_loop.runtime.session_cache import CacheStats
    from power_loop.store.sql_store import SessionStore
    from power_loop.tools.toolbox import ToolRegistry
    from power_loop.words import Said

DEFAULT_DB_PATH = "./power_loop_sessions.db"
MAX_SPAWN_DEPTH = 3


class StatefulAgentLoop(SessionVerbs):
    """An agent loop whose sessions outlive the process. Construction does no I/O; the store opens at first use."""

    deps: Any
    name: str

    def __init__(
        self,
        *,
        llm: Any,
        store: SessionStore | None = None,
        db_path: str | os.PathLike[str] | None = None,
        dsn: str | None = None,
        table_prefix: str | None = None,
        schema: SchemaPolicy | str | None = None,
        config: AgentLoopConfig | None = None,
        tool_registry: ToolRegistry | None = None,
        hooks: AgentHooks | None = None,
        event_bus: AgentEventBus | None = None,
        max_spawn_depth: int | None = None,
        session_cache_size: int = 256,
        tools: Sequence[Any] | None = None,
        deps: Any = None,
        name: str = "agent",
        holder_id: str | None = None,
    ) -> None:
        """See the guide for each parameter. A wrong one is a `ValueError` or `TypeError` here, before any I/O.

        What only a database tells (a DSN, a prefix or a schema policy that is none) is refused when the store is opened first.
        """
        if store is not None and (dsn, db_path, table_prefix, schema) != (None, None, None, None):
            raise ValueError("store= is open already: give it alone, without dsn, db_path, table_prefix or schema")
        from power_loop import parts, verbs  # the runtime comes with the first loop, not with the door

        parts.check_store(store)
        parts.check_parts(
            dsn=dsn, db_path=db_path, table_prefix=table_prefix, config=config, tool_registry=tool_registry, hooks=hooks,
            event_bus=event_bus, name=name, holder_id=holder_id,
        )  # fmt: skip
        self._llm, self._made_llm = parts.usable_model(llm), isinstance(llm, str)
        self.config: AgentLoopConfig = config if config is not None else AgentLoopConfig()
        self.tool_registry: ToolRegistry | None = parts.joined_registry(tool_registry, tools)
        self.hooks: AgentHooks = hooks if hooks is not None else verbs.AgentHooks()
        self.event_bus: AgentEventBus = event_bus if event_bus is not None else verbs.AgentEventBus()
        self.deps, self.name = deps, name
        self._sync = verbs.BlockingTwin()
        self._verbs = verbs.Verbs(
            self, store=store, dsn=dsn if dsn is not None else os.fspath(db_path or DEFAULT_DB_PATH), table_prefix=table_prefix,
            schema=schema, max_spawn_depth=max_spawn_depth, cache_size=session_cache_size, holder_id=holder_id,
        )  # fmt: skip

    @property
    def llm(self) -> Any:
        """The model; another one is another loop, on the same store."""
        return self._llm

    @property
    def store(self) -> SessionStore | None:
        """The store; None until it was opened."""
        return self._verbs.store

    @property
    def drivers(self) -> Drivers:
        """What drives its sessions; for workers, and for nobody outside of this package."""
        return self._verbs

    @property
    def cache_stats(self) -> CacheStats:
        return self._verbs.cache_stats

    # --- sends ----------------------------------------------------------------------------------

    async def send(
        self,
        user_input: Said,
        session_id: str,
        *,
        stop_event: CancellationLike = None,
        tools: Any = None,
        system_prompt: str | None = None,
        heal_pending: bool = False,
        output_type: Any = None,
        limits: UsageLimits | None = None,
        max_rounds: int | None = None,
        key: str | None = None,
        on_busy: str | None = None,
        busy_timeout_s: float | None = None,
        deps: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StatefulResult:
        """Say ``user_input`` and drive the session until it rests; limits and failures of tools are statuses, not errors.

        ``output_type`` (a type, a JSON Schema or a `StructuredOutputSpec`) is what the answer must be: its value is
        ``result.output``.

        The same ``key`` again waits for the first send under it and returns that outcome, paying nothing; one that
        was cut off or failed goes on while it is the session's last.

        Raises `SessionNotFoundError`, `SessionPendingError`, `SessionArchivedError`, `SessionBusyError`,
        `SessionLeaseLost`, `LLMError` (without a retry policy), what a hook raises, and `ValueError`, `TypeError`
        or `ToolNotFound` for misuse, before anything is written.
        """
        verbs = self._verbs
        verbs.refuse_when_closing("send")
        call = verbs.call(tools, system_prompt, limits, max_rounds, stop_event, deps, output_type)
        patience = verbs.patience(on_busy, busy_timeout_s)
        return await verbs.send(user_input, session_id, call, patience, heal_pending=heal_pending, key=key, metadata=metadata)

    async def follow_up(
        self,
        user_input: Said,
        session_id: str,
        *,
        stop_event: CancellationLike = None,
        tools: Any = None,
        system_prompt: str | None = None,
        key: str | None = None,
        mode: str = "queue",
    ) -> StatefulResult | FollowUpQueued:
        """Say something to a running session (heard at its next round), or start a send on one at rest.

        ``mode="steer"`` interrupts the model call in hand, so that the text is seen next.
        """
        self._verbs.refuse_when_closing("follow_up")
        call = self._verbs.call(tools, system_prompt, None, None, stop_event)
        return await self._verbs.follow_up(user_input, session_id, call, key, mode)

    async def enqueue(
        self, user_input: Said, session_id: str, *, key: str | None = None, mode: str = "queue", not_before_ms: int | None = None
    ) -> FollowUpQueued:
        """Leave something for whoever drives the session next; durable when this returns. The same ``key`` counts once.

        ``mode="steer"`` interrupts the model call in hand; ``not_before_ms`` (UTC) is when it may be heard first.
        Raises `SessionNotFoundError`, `SessionArchivedError`.
        """
        self._verbs.refuse_when_closing("enqueue")
        return await self._verbs.enqueue(user_input, session_id, key, mode, not_before_ms)

    async def inbox(self, session_id: str) -> list[InboxItem]:
        """What waits to be heard, oldest first."""
        store = await self.ensure_store()
        await store.look(session_id)
        return await store.inbox(session_id, due=False)

    async def resume(
        self,
        session_id: str,
        *,
        stop_event: CancellationLike = None,
        limits: UsageLimits | None = None,
        extra_rounds: int = 0,
        unknown: UnknownPolicy = "report",
        tools: Any = None,
        system_prompt: str | None = None,
        output_type: Any = None,
        deps: Any = None,
    ) -> StatefulResult:
        """Go on from what the records say, with no new word; the last outcome again when there is nothing to go on with.

        ``unknown`` says what becomes of calls that began before a crash and may not be repeated: they are reported to
        the model, run again on your word (``rerun``), or parked as a question (``ask``). ``tools``, ``output_type`` and ``deps``
        of the send are given again where they are objects, which no store keeps.
        """
        self._verbs.refuse_when_closing("resume")
        call = self._verbs.call(tools, system_prompt, limits, None, stop_event, deps, output_type)
        return await self._verbs.resume(session_id, call, extra_rounds=extra_rounds, unknown=unknown)

    async def submit_input(
        self,
        session_id: str,
        interaction_id: str,
        value: Any,
        *,
        stop_event: CancellationLike = None,
        key: str | None = None,
        tools: Any = None,
        output_type: Any = None,
        deps: Any = None,
    ) -> StatefulResult:
        """Answer one question that a call is parked with, and go on as `resume` does; how the session stands then.

        An answer counts once: a second one is a `ValueError`, as is one to nothing that waits; but the same ``key``
        again answers nothing and returns the outcome.
        """
        self._verbs.refuse_when_closing("submit_input")
        call = self._verbs.call(tools, None, None, None, stop_event, deps, output_type)
        return await self._verbs.submit_input(session_id, interaction_id, value, call, key)

    async def list_approvals(self, session_id: str, *, tree: bool = True) -> list[Approval]:
        """The calls that wait for somebody to approve or deny them, here and (``tree``) in all sessions below."""
        return await self._verbs.approvals(session_id, tree=tree)

    async def approve(self, session_id: str, interaction_id: str, *, digest: str, by: str | None = None, note: str | None = None) -> None:
        """Let the call run, with exactly the arguments that ``digest`` stands for. `resume`, or a worker, goes on.

        The session may be the one that asks or any above it. Raises `ApprovalError`, with its ``reason``: ``decided``
        (one decision counts), ``expired``, ``digest`` (of something else), or ``unknown``; and `SessionArchivedError`.
        """
        await self._verbs.decide(session_id, interaction_id, True, digest, by, note)

    async def deny(self, session_id: str, interaction_id: str, *, digest: str, by: str | None = None, note: str | None = None) -> None:
        """Have the call not run: the model reads that it was denied, and the note. Raises as `approve` does."""
        await self._verbs.decide(session_id, interaction_id, False, digest, by, note)

    async def settle(self, session_id: str, call_id: str, *, output: Any, failed: bool = False) -> None:
        """Say what came of a call of unknown outcome, parked or not; ``output`` is its result. `resume`, or a worker, goes on.

        Raises `ValueError` for any other call, and `SessionBusyError` while somebody drives it.
        """
        self._verbs.refuse_when_closing("settle")
        await self._verbs.settle(session_id, call_id, output, failed=failed)

    async def abort_pending(self, session_id: str, *, reason: str = "aborted") -> int:
        """Answer every open or parked call as aborted and end the send; how many were answered."""
        return await self._verbs.abort_pending(session_id, reason)

    async def cancel(self, session_id: str, *, reason: str = "cancelled") -> bool:
        """Ask the running send to stop, in whatever process it runs; False when nothing runs."""
        return await self._verbs.stop(session_id, reason)

    async def run(self, user_input: Said, session_id: str | None = None, **send_parameters: Unpack[SendParameters]) -> StatefulResult:
        """`send`, on a new session when none is given."""
        return await self.send(user_input, session_id or await self.new_session(), **send_parameters)

    def stream(
        self,
        user_input: Said,
        session_id: str,
        *,
        detach: bool = False,
        stop_event: CancellationLike = None,
        **send_parameters: Unpack[StreamParameters],
    ) -> AsyncGenerator[AgentEvent]:
        """The events of a send and its sub-agents (``event.depth``) as they happen; text is in ``event.delta``, the last is ``result``.

        Leaving early cancels the send, unless ``detach``.
        """
        self._verbs.refuse_when_closing("stream")

        def sending(stop: CancellationToken) -> Coroutine[Any, Any, StatefulResult]:
            return self.send(user_input, session_id, stop_event=stop, **send_parameters)

        return self._verbs.stream(session_id, sending, stop_event, detach=detach)

    def watch(self, session_id: str, *, after: int | str = 0, follow: bool = True) -> AsyncGenerator[AgentEvent]:
        """The events of a session, whichever process drives it: the durable ones after ``after``, without gap or repeat, and what passes.

        ``after`` is an ``event.cursor``, or the seq of a record for its end. With ``follow`` it goes on until the
        session is deleted or this loop closes, else it stops at the head. Raises `SessionNotFoundError`,
        `StoreUnavailable`, and `ValueError` for a cursor that the session does not have.
        """
        return self._verbs.watch(session_id, after, follow=follow)

    # --- for callers without an event loop ----------------------------------------------------------

    def new_session_sync(self, **parameters: Any) -> str:
        self._verbs.refuse_when_closing("new_session_sync")
        return self._sync.run(self.new_session(**parameters), twin="new_session")

    def send_sync(self, user_input: Said, session_id: str, **parameters: Unpack[SendParameters]) -> StatefulResult:
        self._verbs.refuse_when_closing("send_sync")
        return self._sync.run(self.send(user_input, session_id, **parameters), twin="send")

    def follow_up_sync(self, user_input: Said, session_id: str, **parameters: Any) -> StatefulResult | FollowUpQueued:
        self._verbs.refuse_when_closing("follow_up_sync")
        return self._sync.run(self.follow_up(user_input, session_id, **parameters), twin="follow_up")

    def run_sync(self, user_input: Said, session_id: str | None = None, **parameters: Unpack[SendParameters]) -> StatefulResult:
        self._verbs.refuse_when_closing("run_sync")
        return self._sync.run(self.run(user_input, session_id, **parameters), twin="run")

    # --- closing ----------------------------------------------------------------------------------------

    async def aclose(self, *, drain_timeout_s: float = 30.0) -> None:
        """Refuse new work, wait for the sends in hand, then close what this loop opened. May be called more than once."""
        await self._give_back(drain_timeout_s)
        await self.event_bus.drain(drain_timeout_s)
        self._sync.close()

    def close(self) -> None:
        """Close at once, from code without an event loop; sends in hand are cut off and can be resumed."""
        try:
            self._sync.run(self._give_back(0.0), twin="aclose")
        finally:
            self._sync.close()

    async def _give_back(self, drain_timeout_s: float) -> None:
        """Close what this loop opened; a model that was given to it may serve others."""
        await self._verbs.close(drain_timeout_s)
        if self._made_llm:
            await self._llm.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
