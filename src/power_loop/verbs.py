"""What the verbs of the door do, behind the signatures that `loop` shows.

Loaded with the first loop object, and with it the runtime: whoever only imports the door waits for none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from power_loop.context.transcript import Transcript
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.codec import dumps
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.model import capabilities_of
from power_loop.contracts.outcome import FollowUpQueued, StatefulResult
from power_loop.contracts.records import StopRequested, ToolReturned, UnknownPolicy, UserSaid
from power_loop.contracts.text import check_key
from power_loop.contracts.usage import UsageLimits
from power_loop.drivers import Drivers
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.doctor import doctor
from power_loop.runtime.drive import Patience
from power_loop.runtime.hooks import AgentHooks
from power_loop.runtime.openings import Abort, Resume, Say
from power_loop.runtime.outcome import pending
from power_loop.runtime.ports import effects_of
from power_loop.runtime.session import Session
from power_loop.streaming import Streams
from power_loop.sync import BlockingTwin
from power_loop.terms import PLAIN, Call, call_of, chosen_tools
from power_loop.tools.shell.closing import release_session, stop_job
from power_loop.tools.toolbox import ToolRegistry
from power_loop.words import Said, content_said

if TYPE_CHECKING:
    from power_loop.loop import StatefulAgentLoop

__all__ = ["AgentEventBus", "AgentHooks", "BlockingTwin", "Verbs", "joined_registry", "usable_model"]

Sending = Coroutine[Any, Any, StatefulResult]


class Verbs(Drivers):
    """The drivers of one loop, with a method for each thing that a caller may ask for."""

    def __init__(self, loop: StatefulAgentLoop, **opened_with: Any) -> None:
        super().__init__(loop, **opened_with)
        self._streams = Streams()

    # --- what a call sets -----------------------------------------------------------------------

    def call(
        self, tools: Any, system_prompt: str | None, limits: UsageLimits | None, max_rounds: int | None, stop_event: CancellationLike,
        deps: Any = None,
    ) -> Call:  # fmt: skip
        """What the caller set, checked. Raises `ValueError`, `TypeError` or `ToolNotFound`."""
        chosen = chosen_tools(tools, self._loop.tool_registry) if tools is not None else None
        return call_of(chosen, system_prompt, limits, max_rounds, stop_event, deps if deps is not None else self._loop.deps)

    def patience(self, on_busy: str | None = None, timeout_s: float | None = None) -> Patience:
        """How long to wait for a session that somebody else drives; where the call says nothing, as configured."""
        running = self._loop.config.running
        chosen = on_busy if on_busy is not None else running.on_busy
        if chosen not in ("wait", "raise"):
            raise ValueError(f"on_busy is {chosen!r}; it must be 'wait' or 'raise'")
        if timeout_s is not None and not (isinstance(cast("Any", timeout_s), (int, float)) and timeout_s >= 0):
            raise ValueError(f"busy_timeout_s is {timeout_s!r}; it must be seconds, or None to wait")
        return Patience(chosen, timeout_s if timeout_s is not None else running.busy_timeout_s)

    # --- sessions -------------------------------------------------------------------------------

    async def prewarm(self, session_id: str) -> bool:
        store, driver = await self.open()
        try:
            driver.cache.keep(await Session.load(store, session_id))
        except SessionNotFoundError:
            return False
        return True

    async def close_session(self, session_id: str, *, cascade: bool) -> int:
        store, driver = await self.open()
        await self.cancel(session_id, StopRequested("cancelled", "session closed", "cancel"))
        async with driver.lines.held(session_id):
            await self.until_free(session_id)
            gone = await store.close_session_tree(session_id, cascade=cascade)
        for one in gone:
            driver.cache.forget(one)
            await release_session(store, one)
        return len(gone)

    async def messages(self, session_id: str, *, include_compacted: bool) -> list[dict[str, Any]]:
        store, _ = await self.open()
        head = await store.look(session_id)
        transcript = Transcript()
        for row in await store.rows(session_id, after=0 if include_compacted else head.fold_through):
            transcript.add(row)
        return transcript.with_open_round()

    async def pending(self, session_id: str) -> dict[str, Any] | None:
        store, _ = await self.open()
        return pending(await Session.load(store, session_id))

    async def doctor(self, session_id: str, *, repair: bool) -> Diagnosis:
        store, _ = await self.open()
        settings, registry, config = self._current_settings(), self._loop.tool_registry, self._loop.config

        budget = config.budget(capabilities_of(self._loop.llm).context_window)
        return await doctor(
            store, session_id, repair=repair, limits=settings.limits, context_tokens=budget,
            effects_of=partial(effects_of, registry, settings), is_dead=self.lifeline.is_dead,
        )  # fmt: skip

    async def stop_job(self, session_id: str, job_id: str, reason: str) -> bool:
        store, _ = await self.open()
        return await stop_job(store, session_id, job_id, reason)

    # --- sends ----------------------------------------------------------------------------------

    async def send(
        self, said: Said, session_id: str, call: Call, patience: Patience, *, heal_pending: bool, key: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> StatefulResult:  # fmt: skip
        check_key("key", key)
        content, name = await content_said(said)
        word = UserSaid(content, name, call.stored(), key, dict(metadata) if metadata is not None else None)
        say = Say(word, heal_pending, key)
        if key is not None:
            return await self.drive_once(session_id, say, key, call, patience)
        return await self.drive(session_id, say, call, patience)

    async def follow_up(self, said: Said, session_id: str, call: Call, key: str | None, mode: str) -> StatefulResult | FollowUpQueued:
        check_key("key", key)
        refuse_other_modes(mode)
        content, name = await content_said(said)
        posted = await self.post_to_running(session_id, UserSaid(content, name), key, mode)
        if posted is not None:
            return posted
        # As it was understood above: an attachment is read once.
        understood = {"content": content, "name": name}
        return await self.send(understood, session_id, call, self.patience(), heal_pending=False, key=key, metadata=None)

    async def enqueue(self, said: Said, session_id: str, key: str | None, mode: str, not_before: int | None) -> FollowUpQueued:
        check_key("key", key)
        refuse_other_modes(mode)
        content, name = await content_said(said)
        return await self.post(session_id, UserSaid(content, name), key, mode=mode, not_before=not_before)

    async def resume(self, session_id: str, call: Call, *, extra_rounds: int = 0, unknown: UnknownPolicy = "report") -> StatefulResult:
        if unknown not in ("report", "rerun", "ask") or not (type(extra_rounds) is int and extra_rounds >= 0):
            raise ValueError(f"resume takes unknown='report', 'rerun' or 'ask' and extra_rounds >= 0, not {unknown!r} and {extra_rounds!r}")
        return await self.drive(session_id, Resume(extra_rounds, unknown, call.stored()), call, self.patience())

    async def submit_input(self, session_id: str, interaction_id: str, value: Any, call: Call) -> StatefulResult:
        waiting = await self.pending(session_id)
        asked = {question["interaction_id"]: question for question in (waiting or {}).get("pending_interactions", ())}
        if interaction_id not in asked:
            raise ValueError(f"session {session_id!r} waits for no answer to {interaction_id!r}; it waits for {sorted(asked) or 'nothing'}")
        question = asked[interaction_id]
        answer = ToolReturned(
            question["tool_call_id"], value if isinstance(value, str) else dumps(value), name=question["tool_name"], ran=False
        )
        await self.post(session_id, answer, f"answer:{interaction_id}")
        return await self.resume(session_id, call)

    async def abort_pending(self, session_id: str, reason: str) -> int:
        opening = Abort(reason)
        await self.drive(session_id, opening, PLAIN, self.patience())
        return opening.written

    async def stop(self, session_id: str, reason: str) -> bool:
        return await self.cancel(session_id, StopRequested("cancelled", reason, "cancel"))

    async def stream(
        self, session_id: str, sending: Callable[[CancellationToken], Sending], stop_event: CancellationLike, *, detach: bool
    ) -> AsyncGenerator[AgentEvent]:
        """The events of ``sending(token)``; leaving early cancels the token, unless ``detach``."""
        left = CancellationToken()
        stop = left if stop_event is None else CancellationToken.any_of(CancellationToken.from_any(stop_event), left)

        def is_on() -> bool:
            return self.drives(session_id, stop)

        def leave(task: asyncio.Task[StatefulResult]) -> None:
            left.cancel("consumer left")
            if not is_on():
                task.cancel()  # it still waits for its turn; the send that has it is somebody else's

        bus, work = self._loop.event_bus, sending(stop)
        async with aclosing(self._streams.events_of(work, bus, session_id, is_on=is_on, leave=leave, detach=detach)) as events:
            async for event in events:
                yield event

    async def watch(self, session_id: str, after: int | str, *, follow: bool) -> AsyncGenerator[AgentEvent]:
        """The events of a session from any process, after a cursor."""
        store, _ = await self.open()
        async with aclosing(self._watching.events(store, session_id, self.holder, after=after, follow=follow)) as events:
            async for event in events:
                yield event


def refuse_other_modes(mode: str) -> None:
    if mode not in ("queue", "steer"):
        raise ValueError(f"mode is {mode!r}; it must be 'queue' or 'steer'")


def usable_model(llm: Any) -> Any:
    """The model that ``llm`` is or names. Raises `TypeError` for what is none."""
    if isinstance(llm, str):
        from power_loop.providers.open import create_llm  # the string chooses the provider

        return create_llm(llm)
    if not callable(getattr(llm, "complete", None)) and not callable(getattr(llm, "stream", None)):
        raise TypeError(
            f"llm= takes an object with an awaitable complete(request), or a string like 'openai:MODEL', not {type(llm).__name__}"
        )
    return llm


def joined_registry(registry: ToolRegistry | None, tools: Sequence[Any] | None) -> ToolRegistry | None:
    """The registry of a loop that was given one, or tools, or both."""
    if tools is None:
        return registry
    joined = registry.subset(registry.names()) if registry is not None else ToolRegistry()  # its own: others may use the one given
    joined.add(*tools)
    return joined
