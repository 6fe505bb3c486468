"""Folding inside a send whose request does not fit: older sends, then older rounds, become a summary.

What cannot be folded is shown cut: the oldest tool results first. Where that does not help either, the send ends as
degraded, unless nobody said how much a request may have; then the provider decides.
"""

from __future__ import annotations

from power_loop.context.fold import cut, exceeds, grown, of_messages, results_to_cut
from power_loop.contracts.effects import FoldContext
from power_loop.contracts.errors import CompactionFailed, ContextOverflow, LLMError, LLMRetryExhausted
from power_loop.contracts.records import ContextFolded, FoldSkipped, ModelReplied
from power_loop.runtime.asking import ask
from power_loop.runtime.folding import Folding
from power_loop.runtime.rounds import close_round
from power_loop.runtime.send import Send

# Results are cut to this part of what a request may have, so that the next rounds need not cut again.
ROOM = 0.9
# What a provider refuses is shortened to this part of it.
AFTER_OVERFLOW = 0.75


async def fold_context(send: Send, effect: FoldContext) -> None:
    """Make the next request fit; at least one record says what was done."""
    if send.round_open:
        await close_round(send)
    await send.flush()
    settings, head = send.terms.settings, send.terms.head_tokens
    limit = send.overflow_at or settings.context_tokens or 0
    window = send.session.window
    target, room = of_messages(window, head, min(settings.fold_target_tokens, limit)), of_messages(window, head, limit)
    part = cut(window, settings.fold.keep_last_sends, target, limit_tokens=room)
    instead, left = results_to_cut(window, int(room * ROOM))
    again = grown(window, head, settings.context_tokens or 0) or send.overflow_at or (left > room and not window.in_vain)
    failed = part is not None
    if part is not None and again:
        record = await Folding(send, part, send.scope, send.note).made()
        failed = isinstance(record, FoldSkipped)
        await _stand(send, record)
        if not exceeds(send.session.window, head, limit):
            return
        instead, left = results_to_cut(send.session.window, int(of_messages(send.session.window, head, limit) * ROOM))
    if instead is not None:
        send.note(FoldSkipped("the oldest results are shown cut", tokens=left, cut=instead))
        await send.flush()
    elif part is None or not again:
        why = "nothing to fold" if part is None else "the last attempt failed, and little was added since"
        send.note(FoldSkipped(why, part.through if part else 0, window.tokens - window.growth() if part else window.tokens))
    # A fold that failed fails no send: then the provider decides.
    if settings.context_is_known and not failed and send.ahead.stop is None and exceeds(send.session.window, head, settings.context_tokens):
        _overflow(send)


async def _stand(send: Send, record: ContextFolded | FoldSkipped) -> None:
    """Write what came of the fold; the handlers hear of one that was made."""
    count = len(send.session.window.messages)
    send.note(record)
    await send.flush()
    if isinstance(record, ContextFolded) and "compact.after" in send.ports.hooks.standing:
        messages = send.session.window.messages
        await ask(send, "compact.after", messages=messages, messages_before_count=count, messages_after_count=len(messages))


def _overflow(send: Send) -> None:
    """Note that the request does not fit, whatever is done: a row for people, and the end of the send."""
    tokens, limit = send.session.window.estimate(send.terms.head_tokens), send.terms.settings.context_tokens
    text = f"the request has about {tokens} tokens, {limit} are allowed, and nothing more can be folded or cut"
    error = CompactionFailed(text)
    send.error = {"code": error.code, "type": type(error).__name__, "message": text}
    send.teller.say("status_changed", kind="compaction_failed", reason=text)
    send.teller.say("llm_degraded", reason="context_overflow", attempts=0, error_type=type(error).__name__, error_message=text)
    send.note(ModelReplied(f"[degraded: LLM context_overflow — {type(error).__name__}: {text}]", purpose="degraded"))


def makes_room(send: Send, error: LLMError) -> bool:
    """The provider refused the request as too long: True when the send shall fold, and ask once more."""
    cause = error.last_error if isinstance(error, LLMRetryExhausted) else error
    if not isinstance(cause, ContextOverflow) or send.overflow_at is not None or send.terms.settings.context_tokens is None:
        return False
    if send.window is not send.session.window or not send.ahead.fold_due:
        return False
    tokens = send.session.window.estimate(send.terms.head_tokens)
    send.overflow_at = max(1, int(min(tokens, send.terms.settings.context_tokens) * AFTER_OVERFLOW))
    return True
