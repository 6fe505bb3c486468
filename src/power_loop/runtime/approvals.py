"""Approvals within a send: which calls wait for one, and what becomes of those that were denied.

A call is parked before it starts; its siblings go on. The decision is a record, so nobody is asked twice. How a decision
comes in from outside is the business of `approvals_outside`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.approvals import EXPIRED, digest_of, is_approval
from power_loop.contracts.copies import copied
from power_loop.contracts.effects import ReportDenied
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import Decided, ToolParked, ToolReturned
from power_loop.contracts.store import Post
from power_loop.contracts.tool import ToolRun, canonical
from power_loop.runtime.cancel import Cut
from power_loop.runtime.send import Send

# In the question; the arguments themselves stand beside it, whole.
PROMPT_CHARS = 500


async def may_start(send: Send, call: ToolCall, rule: Any, run: ToolRun, arguments: Mapping[str, Any], *, rewritten: bool) -> bool:
    """Nobody need approve ``call``, or somebody did, with exactly these arguments; else it is parked.

    ``rewritten``: a hook has changed it just now, and the change is kept with the question.
    """
    digest = digest_of(call.id, call.name, arguments)
    if any(made.approved and made.call_id == call.id and made.digest == digest for made in send.ahead.decisions):
        return True
    try:
        with send.scope:
            asks = await _asks(send, rule, run, arguments)
    except Cut:  # the send stops, and answers the call
        return False
    if not asks:
        return True
    if run.posts:
        send.posts = {**send.posts, call.id: _with_question(run.posts, digest)}
    send.note(ToolParked(call.id, _question(send, call, run, arguments, digest, rewritten)))
    return False


async def _asks(send: Send, rule: Any, run: ToolRun, arguments: Mapping[str, Any]) -> bool:
    """Whether the tool's rule wants somebody to look at this call. A rule that raises wants it."""
    if not callable(rule):
        return True
    try:
        shown = copied(dict(arguments))  # what a rule does to them must not reach the handler
        return bool(await send.ports.threads.ask(rule, run, shown))
    except Exception:  # the host's own code
        return True


def _with_question(posts: Sequence[Post], digest: str) -> list[Post]:
    """What a rule left, under keys that belong to its question: those of the handler, which may run later, begin anew."""
    return [post._replace(key=f"{post.key}:{digest[:16]}") for post in posts]


def _question(send: Send, call: ToolCall, run: ToolRun, arguments: Mapping[str, Any], digest: str, rewritten: bool) -> dict[str, Any]:
    now, ttl_ms = send.ports.clock.now_ms(), send.terms.settings.approval_ttl_ms
    shown = canonical(arguments)
    return {
        "interaction_id": _interaction_id(run.idempotency_key, digest),
        "tool_call_id": call.id,
        "tool_name": call.name,
        "kind": "approval",
        "prompt": f"May {call.name} run with {shown if len(shown) <= PROMPT_CHARS else shown[:PROMPT_CHARS] + '…'}?",
        "options": [],
        "metadata": {},
        "arguments": dict(arguments),
        "digest": digest,
        "requested_at": now,
        "expires_at": now + ttl_ms if ttl_ms is not None else None,
        **({"rewritten": call.arguments} if rewritten else {}),
    }


def _interaction_id(key: str, digest: str) -> str:
    """The same for the same call with the same arguments; another for a question that the call itself may ask later."""
    return "input_" + hashlib.sha256(f"approval\n{key}\n{digest}".encode()).hexdigest()[:16]


# --- decided ------------------------------------------------------------------------------------------


def let_expire(send: Send) -> None:
    """Note a denial for every approval whose time has run out with no decision on its way."""
    state = send.ahead
    if not state.parked:
        return
    now = send.ports.clock.now_ms()
    on_its_way = {item.record.interaction_id for item in send.session.waiting if isinstance(item.record, Decided)}
    for call in state.open_calls:
        asked = state.question(call.id) if call.id in state.parked else None
        if asked is not None and expired(asked, now) and asked["interaction_id"] not in on_its_way:
            send.note(Decided(asked["interaction_id"], call.id, False, None, EXPIRED, asked["digest"], now))


def expired(question: Mapping[str, Any], now: int) -> bool:
    """The time for a decision has run out."""
    expires_at = question.get("expires_at")
    return is_approval(question) and expires_at is not None and expires_at <= now


async def report_denied(send: Send, effect: ReportDenied) -> None:
    """Answer calls that shall not run with what was said about them."""
    for call in effect.calls:
        name = send.ahead.as_run(call).name
        note = next((made.note for made in reversed(send.ahead.decisions) if made.call_id == call.id), None)
        said = f" Note: {note}" if note else ""
        await send.say(ToolReturned(call.id, f"Denied: {name} was not run.{said}", "denied", name, ran=False))
