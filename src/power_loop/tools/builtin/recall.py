"""The tools ``recall_compacted``, ``recall_send`` and ``recall_output``: what was folded, shortened or cut, in its original words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from power_loop.contracts.messages import text_of
from power_loop.contracts.rows import MessageRow, MessageState
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed

FOUND, MAX_FOUND = 20, 50
SHOWN_CHARS = 2000
# Well below what a result may have, or it would be cut itself.
OUTPUT_CHARS, MAX_OUTPUT_CHARS = 20_000, 40_000

_COUNT = {"type": "integer", "minimum": 1}
_NOWHERE = "There is no session here that could be read."


def about_send(args: Mapping[str, Any], result: str | None) -> str:
    return f"recall_send: #{args.get('send_index')}"


def about_output(args: Mapping[str, Any], result: str | None) -> str:
    return f"recall_output: {args.get('call_id')} from {args.get('offset', 0)}"


DEFINITIONS = (
    ToolDefinition(
        "recall_compacted",
        "Read original messages of this session that a summary stands for now, newest last. Without a query, the latest of them.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "description": "Words that the message must hold, all of them, in any case"},
                "from_seq": {**_COUNT, "description": "Not before this seq"},
                "to_seq": {**_COUNT, "description": "Not after this seq"},
                "limit": {**_COUNT, "maximum": MAX_FOUND, "description": f"How many; {FOUND} by default"},
            },
            "additionalProperties": False,
        },
        effects="pure",
    ),
    ToolDefinition(
        "recall_send",
        "Read the original messages of one send of this session, by the number that its summary or short form shows (#N).",
        {
            "type": "object",
            "properties": {"send_index": {**_COUNT, "description": "The N of #N"}},
            "required": ["send_index"],
            "additionalProperties": False,
        },
        project=about_send,
        effects="pure",
    ),
    ToolDefinition(
        "recall_output",
        "Read the whole text of a tool result that was cut, in parts.",
        {
            "type": "object",
            "properties": {
                "call_id": {"type": "string", "minLength": 1, "description": "As the cut result names it"},
                "offset": {"type": "integer", "minimum": 0, "description": "The first character to show, counted from 0"},
                "limit": {**_COUNT, "maximum": MAX_OUTPUT_CHARS, "description": f"How many characters; {OUTPUT_CHARS} by default"},
            },
            "required": ["call_id"],
            "additionalProperties": False,
        },
        project=about_output,
        effects="pure",
    ),
)


async def recall_compacted(
    run: ToolRun, query: str | None = None, from_seq: int | None = None, to_seq: int | None = None, limit: int = FOUND
) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    rows: list[MessageRow] = await run.store.load_all_messages(run.session_id)
    folded = [row for row in rows if row.state == MessageState.COMPACTED_OUT]
    if not folded:
        return ToolHandlerResult(True, "No summary stands for anything in this session: all its messages are before you.")
    words = (query or "").casefold().split()
    last = folded[-1].seq if to_seq is None else to_seq
    found = [shown for row in folded if (from_seq or 0) <= row.seq <= last if _holds(shown := told(row), words)]
    if not found:
        return ToolHandlerResult(
            True, f"Nothing matches among the folded messages (seq {folded[0].seq} to {folded[-1].seq}): try other words or another range."
        )
    newest = found[-min(limit, MAX_FOUND) :]
    older = len(found) - len(newest)
    more = [f"[{older} older ones match too: narrow the query, or give from_seq and to_seq]"] if older else []
    return ToolHandlerResult(True, "\n\n".join([*more, *(cut(each) for each in newest)]))


async def recall_send(run: ToolRun, send_index: int) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    rows: list[MessageRow] = await run.store.load_all_messages(run.session_id)
    of_send = [told(row) for row in rows if row.send_index == send_index]
    if not of_send:
        known = [row.send_index for row in rows]
        return failed(f"There is no send #{send_index}; this session has " + (f"#{min(known)} to #{max(known)}." if known else "none yet."))
    return ToolHandlerResult(True, "\n\n".join(of_send))


async def recall_output(run: ToolRun, call_id: str, offset: int = 0, limit: int | None = None) -> ToolHandlerResult:
    if not run.has_session_store:
        return failed(_NOWHERE)
    text: str | None = await run.store.load_output(run.session_id, call_id)
    if text is None:
        return failed(f"There is no result of a call {call_id!r} in this session; a result that was cut names its call_id.")
    if offset and offset >= len(text):
        return failed(f"The result has {len(text)} characters; offset {offset} lies beyond its end.")
    end = min(len(text), offset + min(limit or OUTPUT_CHARS, _room(run)))
    going_on = f"\n[go on with offset={end}]" if end < len(text) else ""
    return ToolHandlerResult(True, f"[characters {offset} to {end} of {len(text)}]\n{text[offset:end]}{going_on}")


def _room(run: ToolRun) -> int:
    """So many characters of text fit in one result, with a line before and one after."""
    return max(200, min(MAX_OUTPUT_CHARS, run.config.tooling.result_max_chars - 200)) if run.config is not None else MAX_OUTPUT_CHARS


def told(row: MessageRow) -> str:
    """A message whole, under a line that says where it stands and whose it is."""
    who = f"result of {row.tool_call_id}" if row.role == "tool" else row.role
    name = f" ({row.name})" if row.name else ""
    text = "[its text was pruned]" if row.state == MessageState.DROPPED else text_of(row.content)
    calls = [_call(each) for each in row.tool_calls or ()]
    return "\n".join([f"[seq {row.seq}, send #{row.send_index}] {who}{name}:", *([text] if text else []), *calls])


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call
    return f"→ {function.get('name')}({function.get('arguments')}) as {call.get('id')}"


def _holds(text: str, words: list[str]) -> bool:
    folded = text.casefold()
    return all(word in folded for word in words)


def cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} [… {len(text) - SHOWN_CHARS} more characters]"


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"recall_compacted": recall_compacted, "recall_send": recall_send, "recall_output": recall_output}
