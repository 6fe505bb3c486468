"""Making one fold: what the strategy is given, what it may give back, and the record that comes of it.

The same in a send and after one, and for every representation. A fold that fails leaves history as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from power_loop.context.fold import Cut as Part
from power_loop.context.fold_context import FoldContext
from power_loop.context.fold_rows import fold_rows, kept_word, parts_of, previous_summary
from power_loop.context.note import summary_message
from power_loop.context.strategy import FoldResult
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.log import log
from power_loop.contracts.messages import Message, estimate_tokens
from power_loop.contracts.records import CallCharged, ContextFolded, FoldSkipped
from power_loop.runtime.asking import ask
from power_loop.runtime.cancel import Cut, Scope, failing_when_cancelled_by_itself
from power_loop.runtime.fold_model import FoldModel
from power_loop.runtime.send import Send

FAILED = "the summary failed or was empty"


class Folding:
    """One fold about to be made, of the window as it is now: what is added meanwhile is not its business."""

    charge: Callable[[CallCharged], None]
    part: Part
    scope: Scope
    send: Send

    def __init__(self, send: Send, part: Part, scope: Scope, charge: Callable[[CallCharged], None]) -> None:
        self.send, self.part, self.scope, self.charge = send, part, scope, charge
        window = send.session.window
        self.before: int = window.tokens
        self._messages = window.messages
        self._parts = parts_of(window, part)
        self._rows = fold_rows(window, part, send.session_id, send.terms.settings.representation)
        self._word = kept_word(window, part)
        self._scale = round(window.scale(send.terms.head_tokens), 3)
        self._now, self._previous = window.estimate(send.terms.head_tokens), previous_summary(window)

    async def made(self) -> ContextFolded | FoldSkipped:
        """The fold, or why there is none. Charges what it costs; never raises but what cancels the task."""
        send, part = self.send, self.part
        if await self._vetoed():
            return FoldSkipped("a hook skipped it", part.through, self.before)
        send.teller.say(
            "status_changed", kind="auto_compact", phase="started", round_index=send.ahead.rounds, trigger="tokens",
            before_tokens=self.before,
        )  # fmt: skip
        result: FoldResult | None = None
        reason = FAILED
        try:
            async with asyncio.timeout(send.terms.settings.fold_timeout_s):
                with failing_when_cancelled_by_itself():
                    result = await self._asked()
        except Cut:
            reason = "cancelled"
        except TimeoutError:
            reason = f"it took longer than {send.terms.settings.fold_timeout_s:g} s"
        except Exception as error:  # the strategy's own code, or the model: a failing fold never fails the send
            reason = f"{FAILED}: {type(error).__name__}: {error}"[:500]
        if result is None:
            send.teller.say("status_changed", kind="compaction_failed", reason=reason)
            return FoldSkipped(reason, part.through, self.before)
        return self._record(result)

    async def _vetoed(self) -> bool:
        if "compact.before" not in self.send.ports.hooks.standing:
            return False
        context = await ask(self.send, "compact.before", messages=self._messages)
        return context.directive == HookDirective.SKIP

    async def _asked(self) -> FoldResult | None:
        """Ask the strategy, check what it gives, and keep the notes that it wants kept."""
        given: Any = await self.send.terms.settings.fold.fold(self._rows, context=await self._context())
        if given is None:
            return None
        result = checked(given, [row.send_index for row in self._rows])
        await self._keep_notes(result)
        return result

    async def _context(self) -> FoldContext:
        send, settings = self.send, self.send.terms.settings
        strategy, store = settings.fold, send.ports.notes
        # Only some strategies have a model of their own.
        own = getattr(strategy, "summary_llm", None)
        llm = FoldModel(send, send.ports.model, self.scope, self.charge)
        summariser = llm if own is None else FoldModel(send, own, self.scope, self.charge)
        context = FoldContext(
            send.session_id, send.ahead.rounds, settings.shown_as, llm, summariser, send.terms.tools, memory_of(send),
            settings.context_tokens or 0, self._now, previous=self._previous,
        )  # fmt: skip
        if store is not None:
            context.notes, context.notes_policy = await store.list_notes(send.session_id), store.notes_policy
        return context

    async def _keep_notes(self, result: FoldResult) -> None:
        """Write the notes; one that finds no room is left out, with a warning. A fold that is made again writes none twice."""
        store, session_id = self.send.ports.notes, self.send.session_id
        if store is None:
            return
        for at, op in enumerate(result.note_ops):
            try:
                if op.op == "update" and op.note_id is not None:
                    await store.update_note(session_id, op.note_id, content=op.content, pinned=op.pinned or None)
                else:
                    await store.add_note(session_id, op.content, pinned=op.pinned, key=f"fold:{self.part.through}:{at}")
            except Exception as error:  # full, too long, or gone: the summary stands without it
                log.warning("session %s: a note of a fold was not kept: %s", session_id, error)

    def _record(self, result: FoldResult) -> ContextFolded:
        part, scale = self._parts[result.folded_to_send], 0.0 if self._scale == 1.0 else self._scale
        summary = result.rendered_text if result.rendered_text is not None else result.content
        after = estimate_tokens(self._lead(part, summary)) + self.before - estimate_tokens(part.messages)
        return ContextFolded(part.through, summary, part.through_send, self.before, after, part.keeps, part.rounds, scale)

    def _lead(self, part: Part, summary: str) -> list[Message]:
        """What stands in place of ``part``."""
        note = summary_message(summary, part.through_send, part.rounds)
        return [note, self._word] if part.keeps and self._word is not None else [note]

    def shown_after(self, record: ContextFolded) -> list[Message]:
        """The messages of the window with the fold in it."""
        part = self._parts[record.through_send]
        return [*self._lead(part, record.summary), *self._messages[len(part.messages) :]]


def memory_of(send: Send) -> Any:
    """The memory provider of the loop, if it has one."""
    base = send.terms.tool_run
    return base.config.memory if base is not None and base.config is not None else None


def checked(given: Any, sends: list[int]) -> FoldResult:
    """``given`` as a fold. Raises `ValueError`."""
    if not isinstance(given, FoldResult):
        raise ValueError(f"fold() gives a FoldResult or None, not {type(given).__name__}")
    shown: Any = given.rendered_text if given.rendered_text is not None else given.content
    if not isinstance(shown, str) or not shown.strip():
        raise ValueError("the summary is empty, or no text")
    if given.folded_to_send not in sends:
        raise ValueError(f"folded_to_send is {given.folded_to_send!r}; it was given the sends {sends[0]} to {sends[-1]}")
    return given
