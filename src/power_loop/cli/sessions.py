"""``power-loop sessions`` and ``power-loop show``: which sessions there are, and what was said in one."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

from power_loop.cli.exits import NOT_FOUND, OK, CommandFailed
from power_loop.cli.place import add_options, opened, tell
from power_loop.cli.pretty import table, transcript
from power_loop.cli.screen import message_line, one_line
from power_loop.cli.words import at_least_one, when
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.rows import MessageRow, SessionKind, SessionRow, SessionStatsRow, SessionStatus
from power_loop.store.sql_store import SessionStore

COLUMNS = ("session", "last change", "so far", "", "metadata")


def add(commands: Any) -> None:
    """Offer both commands to the parser."""
    several: argparse.ArgumentParser = commands.add_parser("sessions", help="list the sessions, the newest first")
    several.add_argument("--all", action="store_true", help="archived ones and children too")
    several.add_argument("--limit", type=at_least_one, default=20, metavar="N", help="at most so many (default: 20)")
    several.set_defaults(run=run_sessions)
    one: argparse.ArgumentParser = commands.add_parser("show", help="what was said in a session: tools, usage, outcome")
    one.add_argument("session", metavar="SESSION")
    one.add_argument("--send", type=int, metavar="N", help="only this send")
    one.add_argument("--records", action="store_true", help="every record as it is stored")
    one.set_defaults(run=run_show)
    for parser in (several, one):
        add_options(parser)


# --- sessions -------------------------------------------------------------------------------------


def run_sessions(args: argparse.Namespace) -> int:
    return asyncio.run(_list(args))


async def _list(args: argparse.Namespace) -> int:
    async with opened(args) as store:
        status, kind = (None, None) if args.all else (SessionStatus.ACTIVE, SessionKind.ROOT)
        shown = await store.list_sessions(status=status, kind=kind, limit=args.limit)
        stats = [await _stats(store, row.session_id) for row in shown]
    data = [{**row._asdict(), "stats": its._asdict() if its is not None else None} for row, its in zip(shown, stats, strict=True)]
    cells = [_cells(row, its) for row, its in zip(shown, stats, strict=True)]
    if not args.json and shown and table(COLUMNS, cells):
        return OK
    lines = ["  ".join(filter(None, each)) for each in cells]
    tell(args, data, "\n".join(lines) or "no sessions")
    return OK


async def _stats(store: SessionStore, session_id: str) -> SessionStatsRow | None:
    try:
        return await store.get_session_stats(session_id)
    except SessionNotFoundError:  # deleted since it was listed
        return None


def _cells(row: SessionRow, stats: SessionStatsRow | None) -> list[str]:
    marks = [name for name, holds in (("archived", row.status == SessionStatus.ARCHIVED), (row.kind, row.kind != "root")) if holds]
    counted = "no finished send"
    if stats is not None:
        counted = f"{stats.sends} send{'' if stats.sends == 1 else 's'}, {stats.total_tokens} tokens"
    metadata = one_line(json.dumps(dict(row.metadata), ensure_ascii=False)) if row.metadata else ""
    return [row.session_id, when(row.updated_at), counted, "  ".join(marks), metadata]


# --- one session ------------------------------------------------------------------------------------


def run_show(args: argparse.Namespace) -> int:
    return asyncio.run(_show(args))


async def _show(args: argparse.Namespace) -> int:
    async with opened(args) as store:
        row = await store.get_session(args.session)
        if args.records:
            records = (await store.export_session(args.session))["records"]
            records = [record for record in records if args.send in (None, record["send_index"])]
            _refuse_no_send(args, records)
            tell(args, records, "\n".join(one_line(json.dumps(record, ensure_ascii=False)) for record in records))
            return OK
        await _show_messages(args, store, row)
    return OK


async def _show_messages(args: argparse.Namespace, store: SessionStore, row: SessionRow) -> None:
    messages = [message for message in await store.load_all_messages(args.session) if args.send in (None, message.send_index)]
    _refuse_no_send(args, messages)
    usage = [call for call in await store.list_usage(args.session) if args.send in (None, call.send_index)]
    ended = [each for each in await store.rows(args.session, after=0) if each.cells.kind in ("send_ended", "send_rested")]
    ends = {each.send_index: json.loads(each.cells.body or "{}")["status"] for each in ended}
    data = {
        **row._asdict(),
        "messages": [message._asdict() for message in messages],
        "usage": [call._asdict() for call in usage],
        "outcomes": ends,
    }
    spent = dict.fromkeys(ends, 0) | {call.send_index: 0 for call in usage}
    for call in usage:
        spent[call.send_index] += call.prompt_tokens + call.completion_tokens
    lines = [line for block in _transcript(messages, ends, spent) for line in block.split("\n")]
    if args.json or not transcript(lines):
        tell(args, data, "\n".join(lines))


def _refuse_no_send(args: argparse.Namespace, found: Sequence[object]) -> None:
    if args.send is not None and not found:
        raise CommandFailed(f"session {args.session!r} has no send {args.send}", NOT_FOUND)


def _transcript(messages: Sequence[MessageRow], ends: dict[int, str], spent: dict[int, int]) -> Iterator[str]:
    for at, message in enumerate(messages):
        line = {"role": message.role, "content": message.content, "tool_calls": message.tool_calls, "name": message.name}
        yield message_line({name: value for name, value in line.items() if value is not None})
        if at + 1 == len(messages) or messages[at + 1].send_index != message.send_index:
            send = message.send_index
            yield f"[send {send}: {ends.get(send, 'not ended')}, {spent.get(send, 0)} tokens]"
