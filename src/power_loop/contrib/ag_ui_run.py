"""One AG-UI run over server-sent events: drives the loop, streams what happens, and goes on where a connection broke.

A run is a send under the key of its ``runId``, so asking for it again never runs it twice: whoever asks gets the rest
of the stream. The send goes on when the interface leaves; a process that takes over continues it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol, cast

from power_loop.contracts.approvals import is_approval, is_for_an_approval
from power_loop.contracts.children import CHILD
from power_loop.contracts.errors import ApprovalError, PowerLoopError, SessionNotFoundError
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.outcome import StatefulResult, described
from power_loop.contracts.redact import redact_text
from power_loop.contracts.watch import Watched
from power_loop.contrib.ag_ui_encoder import AgUiEncoder
from power_loop.contrib.ag_ui_ids import Place, place_of, sse
from power_loop.contrib.ag_ui_input import Answer, RunInput, run_input_of, run_key

# Proxies close a connection on which nothing comes for a while; a comment keeps it open.
SILENCE_S = 15.0
SILENT = b": nothing new\n\n"
# Where the runs of a session began, so that one that is asked for again is told from its beginning; that many.
RUNS_KEPT = 50
STATE_KEY = "ag_ui_runs"

Acting = asyncio.Task[StatefulResult | None]

# Sends whose interface left; an event loop keeps only weak references to its tasks.
_sends: set[Acting] = set()


class LoopStore(Protocol):
    """What this asks of the loop's store."""

    async def watched(self, session_ids: Any) -> list[Watched]: ...

    async def send_of_key(self, session_id: str, key: str) -> int | None: ...

    async def mutate_runtime_state(self, session_id: str, key: str, fn: Callable[[Any], Any], *, default: Any = None) -> Any: ...


class Loop(Protocol):
    """What this asks of a `StatefulAgentLoop`."""

    async def ensure_store(self) -> Any: ...

    async def send(self, user_input: Any, session_id: str, *, key: str | None = None) -> StatefulResult: ...

    async def resume(self, session_id: str) -> StatefulResult: ...

    async def get_pending(self, session_id: str) -> dict[str, Any] | None: ...

    async def submit_input(self, session_id: str, interaction_id: str, value: Any, *, key: str | None = None) -> StatefulResult: ...

    async def approve(self, session_id: str, interaction_id: str, *, digest: str, note: str | None = None) -> None: ...

    async def deny(self, session_id: str, interaction_id: str, *, digest: str, note: str | None = None) -> None: ...

    def watch(self, session_id: str, *, after: int | str = 0, follow: bool = True) -> AsyncGenerator[AgentEvent]: ...


async def run_sse(loop: Loop, run_input: Any, *, session_id: str, last_event_id: str | None = None) -> AsyncGenerator[bytes]:
    """The run that ``run_input`` (a ``RunAgentInput``, as JSON or model) asks for, as server-sent events.

    ``session_id`` is the session behind the ``threadId``: the host says which, and whether this user may see it. With
    the ``Last-Event-ID`` of a connection that broke, the stream goes on behind it, without gap or repeat.
    Raises `ValueError` for an input or id that is none, and `SessionNotFoundError`, before the first event; what fails
    later is RUN_ERROR.
    """
    asked = run_input_of(run_input)
    last = place_of(last_event_id) if last_event_id else None
    store: LoopStore = await loop.ensure_store()
    start, is_new = await _start_of(store, session_id, asked.run_id, last)
    run = Run(loop, store, asked, session_id, start, last, is_new)
    async with aclosing(run.frames()) as frames:
        async for frame in frames:
            yield frame


async def _start_of(store: LoopStore, session_id: str, run_id: str, last: Place | None) -> tuple[int, bool]:
    """The record behind which the run began, and whether it begins now."""
    found = await store.watched([session_id])
    if not found:
        raise SessionNotFoundError(session_id)
    head = found[0].head
    if last is not None and last.at[0] > head:
        raise ValueError(f"session {session_id!r} has {head} records; Last-Event-ID names a later one")
    begins = head if last is None else last.at[0]

    def remember(runs: Any) -> list[list[Any]]:
        known = cast("list[list[Any]]", runs or [])
        return known if any(run == run_id for run, _ in known) else [*known, [run_id, begins]][-RUNS_KEPT:]

    runs = cast("list[list[Any]]", await store.mutate_runtime_state(session_id, STATE_KEY, remember))
    start = next(int(at) for run, at in runs if run == run_id)
    return start, start == begins and last is None


class Run:
    """One connection's way through one run."""

    def __init__(
        self, loop: Loop, store: LoopStore, asked: RunInput, session_id: str, start: int, last: Place | None, is_new: bool
    ) -> None:
        self._loop, self._store, self._asked, self._session_id, self._is_new = loop, store, asked, session_id, is_new
        self._encoder = AgUiEncoder(asked.thread_id, asked.run_id, own_input=asked.said is not None)
        self._encoder.started = last is not None
        self._catching_up = last
        """Up to there the interface has everything; what it has is encoded again and dropped."""
        self._start, self._reconnects = start, last is not None
        self._at = str(start)
        self._send_index: int | None = None
        """Of the send that the run is, once it began; others of the session are none of its business."""
        self._end: AgentEvent | None = None
        """It said that it failed, or waits for input; which it may no longer do, once somebody went on with it."""

    async def frames(self) -> AsyncGenerator[bytes]:
        sending: Acting | None = None
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if isinstance(event, asyncio.Task):
                        sending = event  # it goes on, whoever leaves from here on
                        for frame in self._first_frames():
                            yield frame
                    elif await self._concerns(event):
                        for frame in self._frames_of(event):
                            yield frame
                    if self._encoder.finished:
                        return
        except PowerLoopError as error:  # of the store, or the session is gone
            for frame in self._first_frames():
                yield frame
            for each in self._encoder.fail(*_told(error)):
                yield sse(each)
            return
        for frame in self._last_frames(sending):
            yield frame

    def _first_frames(self) -> Iterator[bytes]:
        if not self._encoder.started:
            yield sse(self._encoder.start(), self._at)

    async def _concerns(self, event: AgentEvent | None) -> bool:
        """Whether ``event`` is of the send that this run is. An answer goes on with one that began before."""
        if event is None or self._asked.said is None:
            return True
        if self._send_index is None and event.record_seq is not None:
            self._send_index = await self._index_of_the_send()
        if self._send_index is not None and event.send_index in (None, self._send_index):
            return True
        self._at = event.cursor or self._at
        return False

    async def _index_of_the_send(self) -> int | None:
        return await self._store.send_of_key(self._session_id, run_key(self._asked.run_id)) or None

    # --- what happens ----------------------------------------------------------------------------------

    async def _events(self) -> AsyncGenerator[AgentEvent | Acting | None]:
        """The send, first; then its events while it is under way, None for silence; then what else there is."""
        events = self._loop.watch(self._session_id, after=self._at)
        coming = asyncio.ensure_future(anext(events, None))
        through: int | None = None
        try:
            await asyncio.sleep(0)  # so that watching begins before the send does, and its first words are heard
            sending = asyncio.create_task(self._act())
            _sends.add(sending)
            sending.add_done_callback(_forget)
            yield sending
            while through is None or place_of(self._at).at[0] < through:
                waited = (coming, sending) if through is None else (coming,)
                await asyncio.wait(waited, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    event = coming.result()
                    if event is None:
                        break
                    coming = asyncio.ensure_future(anext(events, None))
                    yield event
                elif sending.done():  # what it wrote is still to be told
                    through = through or await self._head()
                else:
                    yield None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            await events.aclose()
        async with aclosing(self._loop.watch(self._session_id, after=self._at, follow=False)) as rest:
            async for event in rest:
                yield event

    async def _head(self) -> int:
        found = await self._store.watched([self._session_id])
        return found[0].head if found else 0

    def _frames_of(self, event: AgentEvent | None) -> Iterator[bytes]:
        if event is None:
            yield SILENT
            return
        self._at = event.cursor or self._at
        where = place_of(self._at).at
        if self._catching_up is not None and event.record_seq is None and where < self._catching_up.at:
            return
        told = self._new_of(event, where)
        if self._end is not None and event.record_seq is not None:
            self._end = None
        if _may_not_be_the_end(event):
            self._end = event
            return
        given = list(self._encoded(event))
        yield from (sse(each, id) for each, id in given[len(given) - told if told is not None else 0 :])
        if self._catching_up is not None and where == self._catching_up.at and not self._catching_up.left:
            self._caught_up()

    def _new_of(self, event: AgentEvent, where: tuple[int, int]) -> int | None:
        """How many of this event's AG-UI events the interface has not; None for all of them."""
        last = self._catching_up
        if last is None:
            return None
        if event.record_seq is not None and where < last.at:
            return 0
        if event.record_seq is not None and where == last.at and not last.left:
            return 0
        self._caught_up()
        return last.left if where == last.at and event.record_seq is not None else None

    def _caught_up(self) -> None:
        last, self._catching_up = self._catching_up, None
        if last is not None and last.open is not None:
            self._encoder.open = last.open

    def _encoded(self, event: AgentEvent) -> Iterator[tuple[dict[str, Any], str]]:
        """The AG-UI events of ``event``, each with its id."""
        given = self._encoder.encode_with_tokens(event)
        for n, (each, token) in enumerate(given, start=1):
            if event.record_seq is None:
                yield each, f"{self._at}+{token}"
            else:
                yield each, self._at if n == len(given) else f"{self._at}:{len(given) - n}+{token}"

    def _last_frames(self, sending: Acting | None) -> Iterator[bytes]:
        """The end, where no event told of one: it waits, it failed, nothing ran, or the send was refused."""
        if self._end is not None:
            if self._new_of(self._end, place_of(self._at).at) is None:
                yield from (sse(each, id) for each, id in self._encoded(self._end))
            return
        self._caught_up()
        if sending is None or not sending.done() or sending.cancelled():
            error: BaseException | None = PowerLoopError("the run was cut off; ask for it again")
        else:
            error = sending.exception()
        if error is not None:
            ends = self._encoder.fail(*_told(error))
        else:
            result = sending.result() if sending is not None else None
            ends = self._encoder.finish(result.to_dict()) if result is not None else ()
        for each in ends:
            yield sse(each)

    # --- what is done ------------------------------------------------------------------------------------

    async def _act(self) -> StatefulResult | None:
        """What the input asks for. Asked for again it goes on with what was cut off or failed, else waits for the outcome.

        None where it failed and an interface only reconnects, as browsers do again and again: that is not to be paid for.
        """
        asked, session_id = self._asked, self._session_id
        if self._reconnects and await self._has_failed():
            return None
        if asked.said is not None:
            return await self._loop.send(asked.said, session_id, key=run_key(asked.run_id))
        result: StatefulResult | None = None
        for answer in asked.answers:
            result = await self._answer(answer) or result
        if result is None or result.status == "waiting_for_input":
            result = await self._loop.resume(session_id)
        return result

    async def _has_failed(self) -> bool:
        """The run is over with an error."""
        end: AgentEvent | None = None
        index = await self._index_of_the_send()
        if index is None and self._asked.said is not None:  # it waits in line, or never began
            return False
        async with aclosing(self._loop.watch(self._session_id, after=self._start, follow=False)) as events:
            async for event in events:
                end = event if event.record_seq is not None and index in (None, event.send_index) else end
        return end is not None and _is_failure(end)

    async def _answer(self, answer: Answer) -> StatefulResult | None:
        asked = await self._question(self._session_id, answer.interaction_id)
        if asked is None:
            if self._is_new:
                raise ValueError(f"nothing waits for an answer to {answer.interaction_id!r}")
            return None  # it was given when this run was asked for before
        if is_approval(asked) or is_for_an_approval(asked):
            await self._decide(answer, asked)
            return None
        value: Any = "[the user gave no answer]" if answer.cancelled else answer.payload
        key = run_key(self._asked.run_id, answer.interaction_id)
        return await self._loop.submit_input(self._session_id, answer.interaction_id, value, key=key)

    async def _question(self, session_id: str, interaction_id: str) -> Mapping[str, Any] | None:
        pending = await self._loop.get_pending(session_id) or {}
        interactions = cast("list[Mapping[str, Any]]", pending.get("pending_interactions", []))
        return next((each for each in interactions if each.get("interaction_id") == interaction_id), None)

    async def _decide(self, answer: Answer, asked: Mapping[str, Any]) -> None:
        """Approve or deny what ``asked`` stands for, which a sub-agent may ask, or one of its own."""
        session_id, decide = self._session_id, self._loop.approve if answer.approves else self._loop.deny
        while is_for_an_approval(asked):
            state = cast("Mapping[str, str]", asked["state"])
            session_id = state[CHILD]
            below = await self._question(session_id, state["interaction_id"])
            if below is None:  # it was decided, or nobody asks any more: going on says so
                return
            asked = below
        try:
            await decide(session_id, str(asked["interaction_id"]), digest=str(asked["digest"]), note=answer.note)
        except ApprovalError as error:
            if error.reason != "decided" or self._is_new:
                raise


def _is_failure(event: AgentEvent) -> bool:
    return event.type == "session_ended" and event.payload["reason"] == "error"


def _may_not_be_the_end(event: AgentEvent) -> bool:
    return _is_failure(event) or (event.type == "result" and event.payload["status"] == "waiting_for_input")


def _told(error: BaseException) -> tuple[str, str]:
    """``error`` as RUN_ERROR has it: a text without secrets, and a code."""
    told = described(error)
    return redact_text(str(told["message"])), str(told["code"])


def _forget(sending: Acting) -> None:
    _sends.discard(sending)
    if not sending.cancelled():
        sending.exception()  # told by the stream, or nobody is left to tell
