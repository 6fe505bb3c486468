"""Folding: older sends become a summary, so that a send's cost does not grow with history.

A fold that fails leaves history as it was and never fails the send; it is charged and said, and not tried again
before there is new material.
"""

from __future__ import annotations

import asyncio

from power_loop.context.fold import SUMMARY_PROMPT, as_text, cut, summary_in
from power_loop.context.fold import Cut as Part
from power_loop.contracts.effects import FoldContext
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import estimate_text_tokens, estimate_tokens
from power_loop.contracts.model import LLMRequest, LLMResponse
from power_loop.contracts.records import CallCharged, ContextFolded, FoldSkipped
from power_loop.runtime.asking import ask
from power_loop.runtime.cancel import Cut
from power_loop.runtime.ports import priced
from power_loop.runtime.reply import estimated, usage_of
from power_loop.runtime.rounds import close_round
from power_loop.runtime.send import Send

# The summariser reads at most this much of what is folded; head and tail of it when there is more.
SUMMARY_INPUT_CHARS = 200_000


async def fold_context(send: Send, effect: FoldContext) -> None:
    """Summarise what the border covers, or note why not."""
    await close_round(send)
    settings = send.terms.settings
    part = cut(send.session.window, settings.fold.keep_last_sends, settings.fold_target_tokens)
    if part is None:
        send.note(FoldSkipped("nothing to fold"))
        return
    await send.flush()
    if await _vetoed(send):
        send.note(FoldSkipped("a hook skipped it", part.through))
        return
    before = send.window.tokens
    send.teller.say(
        "status_changed", kind="auto_compact", phase="started", round_index=send.ahead.rounds, trigger="tokens", before_tokens=before
    )
    summary = await _summary(send, part)
    if not summary:
        send.note(FoldSkipped("the summary failed or was empty", part.through))
        send.teller.say("status_changed", kind="compaction_failed", reason="the summary failed or was empty")
        return
    after = before - estimate_tokens(part.messages) + estimate_text_tokens(summary)
    count = len(send.window.messages)
    send.note(ContextFolded(part.through, summary, part.through_send, before, after))
    if send.ports.hooks.stands("compact.after"):
        await send.flush()
        messages = send.window.messages
        await ask(send, "compact.after", messages=messages, messages_before_count=count, messages_after_count=len(messages))


async def _vetoed(send: Send) -> bool:
    if not send.ports.hooks.stands("compact.before"):
        return False
    context = await ask(send, "compact.before", messages=send.window.messages)
    return context.directive == HookDirective.SKIP


async def _summary(send: Send, part: Part) -> str:
    """One model call at temperature 0; empty when it fails. It is charged either way."""
    settings = send.terms.settings
    model = settings.fold.summary_llm or send.ports.model
    text = as_text(part.messages, SUMMARY_INPUT_CHARS)
    request = LLMRequest(
        [{"role": "user", "content": text}], SUMMARY_PROMPT, settings.model if model is send.ports.model else None, 0.0,
        settings.fold.summary_max_tokens, reason="fold", session_id=send.session_id,
    )  # fmt: skip
    if send.scope.stop is not None:
        return ""
    error: str | None = None
    response: LLMResponse | None = None
    try:
        with send.scope:
            async with asyncio.timeout(settings.fold_timeout_s):
                response = await model.complete(request)
    except Cut:
        error = "cancelled"
    except Exception as failure:  # the host's model: a failing fold never fails the send
        error = type(failure).__name__
    usage = usage_of(response, request) if response is not None else estimated(request, "")
    name = (response.model if response else None) or request.model
    send.note(CallCharged("fold", priced(settings, name, usage), error, name))
    return summary_in(response.text) if response is not None else ""
