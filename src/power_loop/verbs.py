"""What the verbs of the door do, behind the signatures that `loop` shows.

Loaded with the first loop object, and with it the runtime: whoever only imports the door waits for none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from power_loop.agents.above import CHILD, asking, home_of, run_above, wake_above, wake_for_those_below
from power_loop.context.transcript import Transcript
from power_loop.contracts.approvals import Approval
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.clock import LONGEST_S, is_between
from power_loop.contracts.codec import dumps
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.jobs import Job
from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.made import made
from power_loop.contracts.model import capabilities_of
from power_loop.contracts.outcome import FollowUpQueued, StatefulResult
from power_loop.contracts.records import Answered, StopRequested, ToolReturned, UnknownPolicy, UserSaid
from power_loop.contracts.rows import RUN_PREFIX, SessionStatsRow
from power_loop.contracts.text import check_key, metadata_in
from power_loop.contracts.usage import UsageLimits
from power_loop.drivers import Drivers
from power_loop.posting import refuse_words_to_a_run
from power_loop.runtime.approvals_outside import Verdict, answer, decide, list_approvals, settle
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.doctor import doctor
from power_loop.runtime.drive import OwnPatience, Patience
from power_loop.runtime.hooks import AgentHooks
from power_loop.runtime.openings import Abort, GoOnAnswered, Resume, Say
from power_loop.runtime.outcome import pending
from power_loop.runtime.ports import effects_of
from power_loop.runtime.session import Session
from power_loop.runtime.window_rows import rows_of_a_window
from power_loop.streaming import Streams
from power_loop.sync import BlockingTwin
from power_loop.terms import PLAIN, Call, OwnTerms, call_of, chosen_tools, form_of
from power_loop.tools.shell.closing import release_session, stop_job
from power_loop.words import Said, Understood, content_said

if TYPE_CHECKING:
    from power_loop.contracts.agents import ChildRun
    from power_loop.loop import StatefulAgentLoop

__all__ = ["AgentEventBus", "AgentHooks", "BlockingTwin", "Verbs"]

Sending = Coroutine[Any, Any, StatefulResult]


class Verbs(Drivers):
    """The drivers of one loop, with a method for each thing that a caller may ask for."""

    def __init__(self, loop: StatefulAgentLoop, **opened_with: Any) -> None:
        super().__init__(loop, **opened_with)
        self._streams = Streams()

    # --- what a call sets -----------------------------------------------------------------------

    def call(
        self, tools: Any, system_prompt: str | None, limits: UsageLimits | None, max_rounds: int | None, stop_event: CancellationLike,
        deps: Any = None, output_type: Any = None,
    ) -> Call:  # fmt: skip
        """What the caller set, checked. Raises `ValueError`, `TypeError` or `ToolNotFound`."""
        chosen = chosen_tools(tools, self._loop.tool_registry) if tools is not None else None
        own = deps if deps is not None else self._loop.deps
        return call_of(chosen, system_prompt, limits, max_rounds, stop_event, own, output_type)

    def patience(self, on_busy: str | None = None, timeout_s: float | None = None) -> Patience:
        """How long to wait for a session that somebody else drives; where the call says nothing, as configured."""
        running = self._loop.config.running
        if on_busy is None and timeout_s is None:
            return running
        if on_busy not in (None, "wait", "raise"):
            raise ValueError(f"on_busy is {on_busy!r}; it must be 'wait' or 'raise'")
        if timeout_s is not None and not (isinstance(cast("Any", timeout_s), (int, float)) and timeout_s >= 0):
            raise ValueError(f"busy_timeout_s is {timeout_s!r}; it must be seconds, or None to wait")
        return OwnPatience(on_busy or running.on_busy, timeout_s if timeout_s is not None else running.busy_timeout_s)

    # --- sessions -------------------------------------------------------------------------------

    async def prewarm(self, session_id: str) -> bool:
        store, driver = await self.open()
        known = driver.cache.known(session_id)
        try:
            if known is None or not known.stands_at(await store.look(session_id), self.shown_as()):
                driver.cache.keep(await Session.load(store, session_id, self.shown_as()))
        except SessionNotFoundError:
            return False
        return True

    async def close_session(self, session_id: str, *, cascade: bool) -> int:
        store, driver = await self.open()
        async with AsyncExitStack() as lines:
            await self._bring_to_rest(session_id, lines)
            # What stands above began what runs below, and ends it: what goes on all the same is ended after it.
            for one in (await store.family(session_id))[1:] if cascade else ():
                with suppress(SessionNotFoundError):  # a leaf that was cut off is gone already
                    await self._bring_to_rest(one, lines)
            gone = await store.close_session_tree(session_id, cascade=cascade)
        for one in gone:
            driver.forget(one)
            await release_session(store, one)
        return len(gone)

    async def _bring_to_rest(self, session_id: str, lines: AsyncExitStack) -> None:
        """Cancel what runs in the session, wait for its end, and let nobody begin anything here while ``lines`` are held."""
        _, driver = await self.open()
        await self.cancel(session_id, StopRequested("cancelled", "session closed", "cancel"))
        await lines.enter_async_context(driver.lines.held(session_id))
        await self.until_free(session_id)

    async def messages(self, session_id: str, *, include_compacted: bool) -> list[dict[str, Any]]:
        store, _ = await self.open()
        head = await store.look(session_id)
        transcript = Transcript()
        rows = await (store.rows(session_id, after=0) if include_compacted else rows_of_a_window(store, head, head.fold_through, None))
        for row in rows:
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
            store, session_id, repair=repair, limits=settings.limits, context_tokens=budget, shown_as=settings.representation,
            effects_of=partial(effects_of, registry, settings), is_dead=self.lifeline.is_dead,
        )  # fmt: skip

    async def session_stats(self, session_id: str, *, tree: bool) -> SessionStatsRow | None:
        store, _ = await self.open()
        stats = await store.get_session_stats(session_id)
        if stats is None or not tree:
            return stats
        below = await store.charged_to(session_id)
        return stats._replace(
            llm_calls=stats.llm_calls + below.calls, prompt_tokens=stats.prompt_tokens + below.prompt,
            completion_tokens=stats.completion_tokens + below.completion, total_tokens=stats.total_tokens + below.total,
            cost=(stats.cost or 0.0) + (below.cost or 0.0),
        )  # fmt: skip

    async def budget(self, session_id: str) -> dict[str, Any]:
        from power_loop.runtime.budget import budget_of  # most loops have no budget to look at

        return await budget_of((await self.open())[0], session_id)

    # --- timers ---------------------------------------------------------------------------------

    async def schedule_timer(
        self, session_id: str, delay_s: float | None, due_at_ms: int | None, note: str, interval_s: float | None, cron: str | None, tz: str
    ) -> TimerRow:
        if [delay_s, due_at_ms, cron].count(None) != 2:
            raise ValueError("schedule_timer takes exactly one of delay_s=, due_at_ms= and cron=")
        if delay_s is not None and not is_between(0, delay_s, LONGEST_S):
            raise ValueError(f"delay_s is {delay_s!r}; it must be seconds from now, up to a hundred years")
        store, _ = await self.open()
        if delay_s is not None:
            due_at_ms = store.clock.now_ms() + round(delay_s * 1000)
        await refuse_words_to_a_run(store, session_id)
        return await store.create_timer(session_id, due_at=due_at_ms, note=note, interval_s=interval_s, cron=cron, tz=tz)

    async def cancel_timer(self, session_id: str, timer_id: int) -> bool:
        store, _ = await self.open()
        await store.look(session_id)
        return await store.transition_timer(session_id, timer_id, from_status="armed", to_status="cancelled")

    async def list_timers(self, session_id: str) -> list[TimerRow]:
        store, _ = await self.open()
        await store.look(session_id)
        return await store.list_timers(session_id)

    async def list_jobs(self, session_id: str) -> list[Job]:
        from power_loop.agents.jobs import jobs_below  # most hosts never ask

        store, _ = await self.open()
        await store.look(session_id)
        below = await jobs_below(store, session_id, self.lifeline.is_dead)
        return sorted([*await store.list_jobs(session_id), *below], key=lambda job: job.created_at)

    async def stop_job(self, session_id: str, job_id: str, reason: str) -> bool:
        store, _ = await self.open()
        await store.look(session_id)
        if job_id in [row.session_id for row in await store.list_children(session_id)]:
            return await self.stop(job_id, reason)
        return await stop_job(store, session_id, job_id, reason)

    # --- sends ----------------------------------------------------------------------------------

    async def send(
        self, said: Said, session_id: str, call: Call, patience: Patience, *, heal_pending: bool, key: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> StatefulResult:  # fmt: skip
        check_key("key", key)
        understood = await content_said(said)
        return await self._say(understood, session_id, call, patience, heal_pending=heal_pending, key=key, metadata=metadata)

    def _say(
        self, understood: Understood, session_id: str, call: Call, patience: Patience, *, heal_pending: bool = False, key: str | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Sending:  # fmt: skip
        content, name = understood
        word = made(UserSaid, (content, name, call.stored(), key, metadata_in(metadata)))
        say = Say(word, heal_pending, key)
        if key is not None:
            return self.drive_once(session_id, say, key, call, patience)
        return self.drive(session_id, say, call, patience)

    async def follow_up(self, said: Said, session_id: str, call: Call, key: str | None, mode: str) -> StatefulResult | FollowUpQueued:
        check_key("key", key)
        refuse_other_modes(mode)
        content, name = await content_said(said)
        posted = await self.post_to_running(session_id, UserSaid(content, name), key, mode)
        if posted is not None:
            return posted
        return await self._say((content, name), session_id, call, self.patience(), key=key)

    async def enqueue(self, said: Said, session_id: str, key: str | None, mode: str, not_before: int | None) -> FollowUpQueued:
        check_key("key", key)
        refuse_other_modes(mode)
        content, name = await content_said(said)
        return await self.post(session_id, UserSaid(content, name), key, mode=mode, not_before=not_before)

    async def resume(self, session_id: str, call: Call, *, extra_rounds: int = 0, unknown: UnknownPolicy = "report") -> StatefulResult:
        if unknown not in ("report", "rerun", "ask") or not (type(extra_rounds) is int and extra_rounds >= 0):
            raise ValueError(f"resume takes unknown='report', 'rerun' or 'ask' and extra_rounds >= 0, not {unknown!r} and {extra_rounds!r}")
        return await self._go_on(session_id, Resume(extra_rounds, unknown, call.stored()), call)

    async def _go_on(self, session_id: str, opening: Resume, call: Call) -> StatefulResult:
        result = await self.drive(session_id, opening, call, self.patience())
        if result.rounds or not any(CHILD in (asked.get("state") or {}) for asked in result.pending_interactions):
            return result
        # Nothing has come of it, and sub-agents are waited for: perhaps they wait no more.
        woken = await wake_for_those_below((await self.open())[0], session_id)
        return await self.drive(session_id, opening, call, self.patience()) if woken else result

    async def submit_input(self, session_id: str, interaction_id: str, value: Any, call: Call, key: str | None) -> StatefulResult:
        check_key("key", key)
        await self.answer(session_id, interaction_id, value, key)
        above = await run_above((await self.open())[0], session_id)
        return await self._go_on(above, GoOnAnswered(overrides=call.stored()), call)

    async def answer(self, session_id: str, interaction_id: str, value: Any, key: str | None) -> None:
        """Leave the answer for whoever drives the session next; those above a sub-agent learn of it too."""
        store, _ = await self.open()
        home, asked = await asking(store, session_id, interaction_id, key)
        await answer(store, home, asked, lambda question: answer_to(question, value), key, given_for=interaction_id)
        await wake_above(store, home)

    # --- sub-agents -----------------------------------------------------------------------------

    async def run_child(self, child: ChildRun) -> StatefulResult:
        """Drive a sub-agent's session under its spec; what it did before under the same key is read, not done again."""
        call, patience = self._as_child(child), self.patience("wait")
        return await self.send(child.said, child.session_id, call, patience, heal_pending=False, key=child.key, metadata=None)

    async def resume_child(self, child: ChildRun) -> StatefulResult:
        """Go on with a sub-agent whose limits stopped it, under the limits of its spec as they are now."""
        return await self.resume(child.session_id, self._as_child(child))

    def _as_child(self, child: ChildRun) -> Call:
        spec, form = child.spec, None
        if spec.output_schema is not None:
            from power_loop.contracts.structured import StructuredOutputSpec  # most sub-agents answer with text

            wanted: dict[str, Any] = {"name": "answer", **spec.output_schema}
            form = form_of(StructuredOutputSpec(**wanted))
        inherits, memory_of = spec.inherit_context, child.memory_of
        own = OwnTerms(child.depth, spec.model, spec.temperature, spec.max_tokens, inherit_context=inherits, memory_of=memory_of)
        return Call(child.tools, None, spec.limits, spec.max_rounds, child.cancel, child.deps, form, own)

    async def retire(self, session_ids: Sequence[str]) -> None:
        """Give back what this process keeps beside sessions that have done what they were for."""
        store, driver = await self.open()
        for one in session_ids:
            driver.forget(one)
            await release_session(store, one)

    async def approvals(self, session_id: str, *, tree: bool) -> list[Approval]:
        store, _ = await self.open()
        return await list_approvals(store, session_id, tree=tree)

    async def decide(
        self, session_id: str, interaction_id: str, approved: bool, digest: str, by: str | None, note: str | None
    ) -> None:  # fmt: skip
        self.refuse_when_closing("approve" if approved else "deny")
        if not isinstance(cast("Any", digest), str) or not all(isinstance(said, (str, NoneType)) for said in cast("Any", (by, note))):
            raise TypeError("digest= takes the text that list_approvals() gave; by= and note= take text, or None")
        store, _ = await self.open()
        home = await home_of(store, session_id, interaction_id)
        await decide(store, home, Verdict(interaction_id, approved, digest, by, note))
        await wake_above(store, home)

    async def settle(self, session_id: str, call_id: str, output: Any, *, failed: bool) -> None:
        store, _ = await self.open()
        await settle(store, session_id, call_id, output, failed, self.lifeline.is_dead)

    async def abort_pending(self, session_id: str, reason: str) -> int:
        opening = Abort(reason)
        await self.drive(session_id, opening, PLAIN, self.patience())
        return opening.written

    async def stop(self, session_id: str, reason: str) -> bool:
        if await self.cancel(session_id, StopRequested("cancelled", reason, "cancel")):
            return True
        # A workflow that waits for somebody is under way, though nobody drives it.
        opening = Abort(reason)
        is_run = session_id.startswith(RUN_PREFIX) and await self._drive_run(session_id, opening, PLAIN, self.patience()) is not None
        return is_run and opening.written > 0

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


def answer_to(question: Mapping[str, Any], value: Any) -> ToolReturned | Answered:
    """``value`` as the result of the call that asks, or, where the call goes on with it, as its answer.

    Raises `ValueError` for what the question does not take as an answer.
    """
    call_id = question["tool_call_id"]
    if "accepts" in question and dumps(value) not in map(dumps, question["accepts"]):
        raise ValueError(f"{value!r} is no answer to {question['prompt']!r}; it is one of {question['accepts']}")
    if "state" in question:
        return Answered(question["interaction_id"], call_id, value)
    return ToolReturned(call_id, value if isinstance(value, str) else dumps(value), name=question["tool_name"], ran=False)


def refuse_other_modes(mode: str) -> None:
    if mode not in ("queue", "steer"):
        raise ValueError(f"mode is {mode!r}; it must be 'queue' or 'steer'")
