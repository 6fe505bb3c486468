"""The door: `StatefulAgentLoop` joins a model, tools and a store, and drives durable sessions.

Every verb ends in the same place: take the lease, read the records, decide, perform, commit. What is kept here
is cache; a session continues from the DSN and its id alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, cast

from power_loop.config import AgentLoopConfig
from power_loop.context.transcript import Transcript
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.outcome import FollowUpQueued, StatefulResult
from power_loop.contracts.records import StopRequested, ToolReturned, UnknownPolicy, UserSaid
from power_loop.contracts.rows import SessionStatsRow
from power_loop.contracts.store import InboxItem, SchemaPolicy
from power_loop.contracts.usage import UsageLimits
from power_loop.drivers import Drivers
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.drive import CacheStats, Patience
from power_loop.runtime.hooks import AgentHooks
from power_loop.runtime.openings import Abort, Resume, Say
from power_loop.runtime.outcome import pending
from power_loop.runtime.session import Session
from power_loop.streaming import Streams
from power_loop.sync import BlockingTwin
from power_loop.terms import Call, call_of, chosen_tools
from power_loop.tools.toolbox import ToolRegistry
from power_loop.words import Said, content_said

if TYPE_CHECKING:
    from power_loop.store.sql_store import SessionStore

DEFAULT_DB_PATH = "./power_loop_sessions.db"
MAX_SPAWN_DEPTH = 3


class StatefulAgentLoop:
    """An agent loop whose sessions outlive the process. Construction does no I/O; the store opens at first use."""

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
        """See the guide for each parameter. A wrong one is a `ValueError` or `TypeError` here, before any I/O."""
        if store is not None and (dsn, db_path, table_prefix, schema) != (None, None, None, None):
            raise ValueError("store= is open already: give it alone, without dsn, db_path, table_prefix or schema")
        self._llm = _model(llm)
        self.config = config if config is not None else AgentLoopConfig()
        self.tool_registry = _registry(tool_registry, tools)
        self.hooks = hooks if hooks is not None else AgentHooks()
        self.event_bus = event_bus if event_bus is not None else AgentEventBus()
        self.deps, self.name = deps, name
        self._sync, self._streams = BlockingTwin(), Streams()
        self._drivers = Drivers(
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
        return self._drivers.store

    @property
    def cache_stats(self) -> CacheStats:
        return self._drivers.cache_stats

    async def ensure_store(self) -> SessionStore:
        """Open the owned store; concurrent callers share one opening. Raises what `open_store` raises."""
        return (await self._drivers.open())[0]

    # --- sessions -------------------------------------------------------------------------------

    async def new_session(
        self, *, metadata: Mapping[str, Any] | None = None, system_prompt: str | None = None, session_id: str | None = None
    ) -> str:
        """A new session; its id. No model is called. Only a prompt that is given here is stored."""
        if system_prompt is not None and not isinstance(cast("Any", system_prompt), str):
            raise TypeError(f"system_prompt= takes text, not {type(system_prompt).__name__}")
        store = await self.ensure_store()
        return await store.create_session(metadata=metadata, system_prompt=system_prompt, session_id=session_id, agent=self.name)

    async def prewarm(self, session_id: str) -> bool:
        """Load what is derived of a session; False for an unknown id. Changes nothing but the time of the next send."""
        store, driver = await self._drivers.open()
        try:
            driver.cache.keep(await Session.load(store, session_id))
        except SessionNotFoundError:
            return False
        return True

    async def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Cancel what runs, then delete the session and (``cascade``) its children; how many are gone."""
        store, driver = await self._drivers.open()
        await self.cancel(session_id, reason="session closed")
        async with driver.lines.held(session_id):
            await self._drivers.until_free(session_id)
            gone = await store.close_session_tree(session_id, cascade=cascade)
        for one in gone:
            driver.cache.forget(one)
        return len(gone)

    async def get_messages(self, session_id: str, *, include_compacted: bool = False) -> list[dict[str, Any]]:
        """The messages in logical order: role, content, tool_calls, tool_call_id, name."""
        store = await self.ensure_store()
        head = await store.look(session_id)
        transcript = Transcript()
        for row in await store.rows(session_id, after=0 if include_compacted else head.fold_through):
            transcript.add(row)
        return transcript.with_open_round()

    async def get_pending(self, session_id: str) -> dict[str, Any] | None:
        """What waits for a result: the calls, the questions, the calls of unknown outcome; None when nothing does."""
        return pending(await Session.load(await self.ensure_store(), session_id))

    async def resolve_system_prompt(self, *, session_id: str | None = None) -> str:
        """The exact system text of the next send without overrides."""
        store = await self.ensure_store()
        own = (await store.get_session(session_id)).system_prompt if session_id is not None else None
        return self._drivers.system_text(own)

    async def get_session_stats(self, session_id: str) -> SessionStatsRow | None:
        """The counters of a session; None before its first finished send."""
        return await (await self.ensure_store()).get_session_stats(session_id)

    async def list_session_stats(self) -> list[SessionStatsRow]:
        """The counters of all sessions, most recently active first."""
        return await (await self.ensure_store()).list_session_stats()

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
        limits: UsageLimits | None = None,
        max_rounds: int | None = None,
        key: str | None = None,
        on_busy: str | None = None,
        busy_timeout_s: float | None = None,
        deps: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StatefulResult:
        """Say ``user_input`` and drive the session until it rests; limits and failures of tools are statuses, not errors.

        The same ``key`` again waits for the first send under it and returns that outcome, paying nothing; one that
        was cut off or failed goes on while it is the session's last.

        Raises `SessionNotFoundError`, `SessionPendingError`, `SessionArchivedError`, `SessionBusyError`,
        `SessionLeaseLost`, `LLMError` (without a retry policy), what a hook raises, and `ValueError`, `TypeError`
        or `ToolNotFound` for misuse, before anything is written.
        """
        self._drivers.refuse_when_closing("send")
        call = call_of(chosen_tools(tools, self.tool_registry), system_prompt, limits, max_rounds, stop_event, self._deps(deps))
        content, name = await content_said(user_input)
        word = UserSaid(content, name, call.stored(), key, dict(metadata) if metadata is not None else None)
        say = Say(word, heal_pending, key)
        return await self._drivers.send(session_id, say, call, self._patience(on_busy, busy_timeout_s))

    async def follow_up(
        self,
        user_input: Said,
        session_id: str,
        *,
        stop_event: CancellationLike = None,
        tools: Any = None,
        system_prompt: str | None = None,
        key: str | None = None,
    ) -> StatefulResult | FollowUpQueued:
        """Say something to a running session (heard at its next round), or start a send on one at rest."""
        self._drivers.refuse_when_closing("follow_up")
        content, name = await content_said(user_input)
        posted = await self._drivers.post_to_running(session_id, UserSaid(content, name), key)
        if posted is not None:
            return posted
        # As it was understood above: an attachment is read once.
        said = {"content": content, "name": name}
        return await self.send(said, session_id, stop_event=stop_event, tools=tools, system_prompt=system_prompt, key=key)

    async def enqueue(self, user_input: Said, session_id: str, *, key: str | None = None) -> FollowUpQueued:
        """Leave something for whoever drives the session next; durable when this returns. The same ``key`` counts once."""
        self._drivers.refuse_when_closing("enqueue")
        content, name = await content_said(user_input)
        return await self._drivers.post(session_id, UserSaid(content, name), key)

    async def inbox(self, session_id: str) -> list[InboxItem]:
        """What waits to be heard, oldest first."""
        store = await self.ensure_store()
        await store.look(session_id)
        return await store.inbox(session_id)

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
    ) -> StatefulResult:
        """Go on from what the records say, with no new word; the last outcome again when there is nothing to go on with.

        ``unknown`` says what becomes of calls that began before a crash and may not be repeated: they are reported to
        the model, run again on your word (``rerun``), or parked as a question (``ask``).
        """
        self._drivers.refuse_when_closing("resume")
        if unknown not in ("report", "rerun", "ask") or not (type(extra_rounds) is int and extra_rounds >= 0):
            raise ValueError(f"resume takes unknown='report', 'rerun' or 'ask' and extra_rounds >= 0, not {unknown!r} and {extra_rounds!r}")
        call = call_of(chosen_tools(tools, self.tool_registry), system_prompt, limits, None, stop_event, self.deps)
        opening = Resume(extra_rounds, unknown, call.stored())
        return await self._drivers.drive(session_id, opening, call, self._patience(None, None))

    async def submit_input(
        self, session_id: str, interaction_id: str, value: Any, *, stop_event: CancellationLike = None
    ) -> StatefulResult:
        """Answer one question that a call is parked with, and go on. Raises `ValueError` for an unknown one."""
        self._drivers.refuse_when_closing("submit_input")
        waiting = await self.get_pending(session_id)
        asked = {question["interaction_id"]: question for question in (waiting or {}).get("pending_interactions", ())}
        if interaction_id not in asked:
            raise ValueError(f"session {session_id!r} waits for no answer to {interaction_id!r}; it waits for {sorted(asked) or 'nothing'}")
        question = asked[interaction_id]
        answer = ToolReturned(
            question["tool_call_id"], value if isinstance(value, str) else dumps(value), name=question["tool_name"], ran=False
        )
        await self._drivers.post(session_id, answer, f"answer:{interaction_id}")
        return await self.resume(session_id, stop_event=stop_event)

    async def abort_pending(self, session_id: str, *, reason: str = "aborted") -> int:
        """Answer every open or parked call as aborted and end the send; how many were answered."""
        opening = Abort(reason)
        await self._drivers.drive(session_id, opening, Call(), self._patience(None, None))
        return opening.written

    async def cancel(self, session_id: str, *, reason: str = "cancelled") -> bool:
        """Ask the running send to stop, in whatever process it runs; False when nothing runs."""
        return await self._drivers.cancel(session_id, StopRequested("cancelled", reason, "cancel"))

    async def run(self, user_input: Said, session_id: str | None = None, **send_parameters: Any) -> StatefulResult:
        """`send`, on a new session when none is given."""
        return await self.send(user_input, session_id or await self.new_session(), **send_parameters)

    async def stream(
        self, user_input: Said, session_id: str, *, detach: bool = False, stop_event: CancellationLike = None, **send_parameters: Any
    ) -> AsyncGenerator[AgentEvent]:
        """The events of a send as they happen; text is in ``event.delta``, the last is ``result``.

        Leaving early cancels the send, unless ``detach``.
        """
        self._drivers.refuse_when_closing("stream")
        left = CancellationToken()
        stop = left if stop_event is None else CancellationToken.any_of(CancellationToken.from_any(stop_event), left)
        work = self.send(user_input, session_id, stop_event=stop, **send_parameters)

        def leave(task: asyncio.Task[StatefulResult]) -> None:
            left.cancel("consumer left")
            if not self._drivers.drives(session_id, stop):
                task.cancel()  # it still waits for its turn; the send that has it is somebody else's

        async with aclosing(self._streams.events_of(work, self.event_bus, session_id, leave=leave, detach=detach)) as events:
            async for event in events:
                yield event

    # --- for callers without an event loop ----------------------------------------------------------

    def new_session_sync(self, **parameters: Any) -> str:
        self._drivers.refuse_when_closing("new_session_sync")
        return self._sync.run(self.new_session(**parameters), twin="new_session")

    def send_sync(self, user_input: Said, session_id: str, **parameters: Any) -> StatefulResult:
        self._drivers.refuse_when_closing("send_sync")
        return self._sync.run(self.send(user_input, session_id, **parameters), twin="send")

    def follow_up_sync(self, user_input: Said, session_id: str, **parameters: Any) -> StatefulResult | FollowUpQueued:
        self._drivers.refuse_when_closing("follow_up_sync")
        return self._sync.run(self.follow_up(user_input, session_id, **parameters), twin="follow_up")

    def run_sync(self, user_input: Said, session_id: str | None = None, **parameters: Any) -> StatefulResult:
        self._drivers.refuse_when_closing("run_sync")
        return self._sync.run(self.run(user_input, session_id, **parameters), twin="run")

    # --- closing ----------------------------------------------------------------------------------------

    async def aclose(self, *, drain_timeout_s: float = 30.0) -> None:
        """Refuse new work, wait for the sends in hand, then close what this loop opened. May be called more than once."""
        await self._drivers.close(drain_timeout_s)
        await self.event_bus.drain(drain_timeout_s)
        self._sync.close()

    def close(self) -> None:
        """Close at once, from code without an event loop; sends in hand are cut off and can be resumed."""
        try:
            self._sync.run(self._drivers.close(0.0), twin="aclose")
        finally:
            self._sync.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    # --- small print --------------------------------------------------------------------------------------

    def _deps(self, given: Any) -> Any:
        return self.deps if given is None else given

    def _patience(self, on_busy: str | None, timeout_s: float | None) -> Patience:
        running = self.config.running
        chosen = on_busy if on_busy is not None else running.on_busy
        if chosen not in ("wait", "raise"):
            raise ValueError(f"on_busy is {chosen!r}; it must be 'wait' or 'raise'")
        if timeout_s is not None and not (isinstance(cast("Any", timeout_s), (int, float)) and timeout_s >= 0):
            raise ValueError(f"busy_timeout_s is {timeout_s!r}; it must be seconds, or None to wait")
        return Patience(chosen, timeout_s if timeout_s is not None else running.busy_timeout_s)


def _model(llm: Any) -> Any:
    if isinstance(llm, str):
        from power_loop.providers.open import create_llm  # the string chooses the provider

        return create_llm(llm)
    if not callable(getattr(llm, "complete", None)) and not callable(getattr(llm, "stream", None)):
        raise TypeError(
            f"llm= takes an object with an awaitable complete(request), or a string like 'openai:MODEL', not {type(llm).__name__}"
        )
    return llm


def _registry(registry: ToolRegistry | None, tools: Sequence[Any] | None) -> ToolRegistry | None:
    if tools is None:
        return registry
    joined = registry.subset(registry.names()) if registry is not None else ToolRegistry()  # its own: others may use the one given
    joined.add(*tools)
    return joined
