"""Ephemeral messages at the tail of a request: what the projectors of a loop have to show, made anew for each request.

They are stored nowhere. A projector that has nothing to show is not asked again until one of its tools was called, so
that a session which never uses them pays nothing for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence, Set
from typing import Any, NamedTuple, cast

from power_loop.contracts.jobs import Job
from power_loop.contracts.log import log
from power_loop.contracts.messages import Message, given_by_the_host
from power_loop.contracts.projection import ProjectionContext, RuntimeProjector
from power_loop.contracts.tool import Toolbox
from power_loop.runtime.cancel import Cut, failing_when_cancelled_by_itself
from power_loop.runtime.send import Send

# Others would stand between a call and its result, or need one.
ROLES = ("user", "system")


class Projected(NamedTuple):
    """What the projectors show with one request."""

    messages: Sequence[Message] = ()
    seen_jobs: Sequence[Job] = ()
    """They count as seen once a reply to it is stored."""


NOTHING_SHOWN = Projected()


class Quiet(NamedTuple):
    """Which projectors had nothing to show, and what of the session was there when they were asked."""

    ids: frozenset[int]
    """By `id`."""
    among: Sequence[RuntimeProjector]
    """All that were asked."""
    epoch: int
    messages: Sequence[Message]
    known: int


def wanted(projectors: Sequence[RuntimeProjector], tools: Toolbox | None) -> tuple[RuntimeProjector, ...]:
    """Those of ``projectors`` that may have something to show with these tools on offer."""
    return tuple(
        each for each in projectors if (needed := needs(each)) is None or (tools is not None and any(map(tools.get, needed)))
    )  # fmt: skip


def needs(projector: RuntimeProjector) -> Sequence[str] | None:
    """The tools without which it has nothing to show; None: it says nothing of that."""
    return cast("Sequence[str] | None", getattr(projector, "tools", None))


async def projected(send: Send) -> Projected | None:
    """Ask the projectors that are not quiet; None when the send is stopped meanwhile."""
    messages: list[Message] = []
    seen: list[Job] = []
    quiet = set(_still_quiet(send))
    for projector in [each for each in send.terms.projectors if id(each) not in quiet]:
        context = _context(send)
        try:
            shown = await _ask(send, projector, context)
        except Cut:
            return None
        if shown:
            messages += shown
            seen += context.seen_jobs
        elif needs(projector) is not None and not context.ask_again:
            quiet.add(id(projector))
    window = send.session.window
    send.session.quiet = Quiet(frozenset(quiet), send.terms.projectors, send.session.head.epoch, window.messages, len(window.messages))
    return Projected(messages, seen)


def _still_quiet(send: Send) -> Set[int]:
    """Projectors that had nothing to show, none of whose tools was called since."""
    quiet, window = send.session.quiet, send.session.window
    if quiet is None or quiet.among != send.terms.projectors or quiet.messages is not window.messages:
        return frozenset()
    if send.session.head.epoch - quiet.epoch > 1:  # another holder drove the session in between
        return frozenset()
    called = {call["function"]["name"] for message in window.messages[quiet.known :] for call in message.get("tool_calls", ())}
    if not called:
        return quiet.ids
    return {id(each) for each in quiet.among if id(each) in quiet.ids and called.isdisjoint(needs(each) or ())}


def _context(send: Send) -> ProjectionContext:
    base = send.terms.tool_run
    return ProjectionContext(
        send.send_index, send.terms.depth, send.terms.tools.names() if send.terms.tools is not None else (),
        send.ports.clock.now_ms(), base.is_dead if base is not None else None,
    )  # fmt: skip


async def _ask(send: Send, projector: RuntimeProjector, context: ProjectionContext) -> Sequence[Message]:
    """What it shows; nothing, with a warning, where it raises or gives what no request can take."""
    try:
        with send.scope, failing_when_cancelled_by_itself():
            given: Any = projector.project(
                store=send.ports.log, session_id=send.session_id, round_index=send.teller.round_index or 0, context=context
            )  # fmt: skip
            return given_by_the_host(await given if inspect.isawaitable(given) else given, ROLES)
    except Cut:
        raise
    except Exception:  # the projector's own code
        log.warning("the projector %s is left out of a request of session %s", type(projector).__name__, send.session_id, exc_info=True)
        return ()
