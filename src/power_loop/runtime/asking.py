"""Asking the hooks: one context per point, and what each directive means for the send.

Whoever asks has flushed before: a handler stands outside, and acts on nothing that is not durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from power_loop.context.pairing import check_pairs
from power_loop.contracts.codec import to_cells
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.messages import Content
from power_loop.contracts.records import ModelReplied, StopRequested, ToolReturned, UserSaid
from power_loop.contracts.results import are_blocks, render_result
from power_loop.contracts.tool import ToolHandlerResult
from power_loop.runtime.cancel import failing_when_cancelled_by_itself

if TYPE_CHECKING:
    from power_loop.runtime.send import Send

STOPPING = (HookDirective.BREAK, HookDirective.CANCEL)


async def ask(send: Send, point: str, **fields: Any) -> Any:
    """Run the handlers at ``point``; the context, with the directive that won.

    Raises what a handler raises, and `RuntimeError` for one that raises a cancel which nobody asked for: it must not pass for
    the end of the send, nor of the call that it is asked about.
    """
    from power_loop.contracts.hook_contexts import context_for  # chosen by the point; a loop without handlers never needs them

    context = context_for(
        point, session_id=send.session_id, send_index=send.send_index + send.ahead.idle, round_index=round_in_hand(send),
        depth=send.terms.depth, scope=send.terms.scope, **fields,
    )  # fmt: skip
    with failing_when_cancelled_by_itself(f"a handler at {point}"):
        return await send.ports.hooks.run_typed_async(point, context)


def round_in_hand(send: Send) -> int:
    """The round that a handler is asked in, counted through the send, whichever run of it this is."""
    if send.ahead.idle:
        return 0
    if send.teller.round_index is not None:
        return send.teller.round_index
    return send.ahead.rounds - bool(send.ahead.open_calls)


def stopped_by(point: str, context: Any) -> StopRequested | None:
    """The stop that a handler asked for, as a record."""
    if context.directive not in STOPPING:
        return None
    cancelled = context.directive == HookDirective.CANCEL
    reason = getattr(context, "reason", None) or ""
    return StopRequested("cancelled" if cancelled else "completed", reason, point)


def answer_of(context: Any, point: str, otherwise: Content) -> Content:
    """The result that a handler gave in a tool's place; ``otherwise`` where it gave none. Raises `TypeError` for what has no JSON."""
    return otherwise if context.output is None else _rendered(context.output, point)


def _rendered(given: Any, point: str) -> Content:
    content, failed, _ = render_result(given)
    if failed and not isinstance(given, ToolHandlerResult):
        raise TypeError(f"a handler at {point} gave an output of type {type(given).__name__}, which has no JSON; give text or plain data")
    return content


def adopt(send: Send, context: Any) -> None:
    """Show the model the messages that a handler put in place, for this run only."""
    messages = context.adopted()
    if messages is not None and messages != send.window.messages:
        check_pairs(messages)
        send.window = send.window.showing(messages)


async def at_message_append(send: Send, record: UserSaid | ModelReplied | ToolReturned) -> UserSaid | ModelReplied | ToolReturned | None:
    """The message as the handlers want it; None when it is dropped."""
    cells = to_cells(record)
    message: dict[str, Any] = {"role": cells.role, "content": said_in(record), "name": cells.name, "tool_call_id": cells.call_id}
    context = await ask(send, "message.append", message=message)
    if context.directive == HookDirective.SKIP and isinstance(record, UserSaid) and record.name in ("follow_up", "hook"):
        return None
    return _shaped(record, context.message)


def _shaped(record: UserSaid | ModelReplied | ToolReturned, message: Mapping[str, Any]) -> UserSaid | ModelReplied | ToolReturned:
    content, name, said = message.get("content"), message.get("name"), said_in(record)
    if content is None and isinstance(record, ModelReplied):
        content = said
    content = "" if content is None else content
    if content != said:
        content = _checked(record, content)
    if isinstance(record, ToolReturned):
        return record._replace(output=content)
    if isinstance(record, ModelReplied):
        return record._replace(text=content)
    if not (name is None or name == record.name or (isinstance(name, str) and name.isprintable())):
        raise TypeError(f"a handler at message.append named a message {name!r:.200}; one line of text is wanted, or None")
    return record._replace(content=content, name=name)


def said_in(record: UserSaid | ModelReplied | ToolReturned) -> Content:
    return record.output if isinstance(record, ToolReturned) else record.text if isinstance(record, ModelReplied) else record.content


def _checked(record: UserSaid | ModelReplied | ToolReturned, content: Any) -> Any:
    """What a handler put in the place of a message's content. Raises `TypeError` for what no model could be sent."""
    if isinstance(record, ToolReturned):
        return _rendered(content, "message.append")
    if isinstance(record, UserSaid):
        return words_of(content, "message.append")
    if isinstance(content, str):
        return content
    raise TypeError(f"a handler at message.append gave a reply the content {content!r:.200}; text is wanted")


def words_of(given: Any, point: str) -> Content:
    """What a handler has the model told in the user's place. Raises `TypeError` for what no model could be sent."""
    if isinstance(given, str) or are_blocks(given):
        return given
    raise TypeError(f"a handler at {point} gave {given!r:.200} as a message; text or content blocks are wanted")
