"""``power-loop timers``: what will wake sessions, and firing it from a scheduler of the system's own."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime
from typing import Any

from power_loop.cli.exits import NOT_FOUND, OK, USAGE, CommandFailed
from power_loop.cli.place import add_options, opened, tell
from power_loop.cli.pretty import working
from power_loop.cli.screen import one_line
from power_loop.cli.words import at_least_one, when
from power_loop.contracts.kept_rows import TimerRow
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.echo import EchoLLM
from power_loop.store.sql_store import SessionStore

ABOUT = (
    "Without an option: the armed timers, soonest first, of one session or of all. Firing leaves a note in the session's inbox and runs "
    "nothing: a worker, a runner or the next send hears it."
)


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("timers", help="list, add, cancel and fire timers", description=ABOUT)
    parser.add_argument("session", nargs="?", metavar="SESSION", help="only this session's")
    parser.add_argument("--all", action="store_true", help="those that have fired or were cancelled too")
    parser.add_argument("--limit", type=at_least_one, default=100, metavar="N", help="at most so many (default: %(default)s)")
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--add", metavar="NOTE", help="wake SESSION with this note: needs --in, --at or --cron")
    does.add_argument("--cancel", type=at_least_one, metavar="ID", help="take back this timer of SESSION")
    does.add_argument("--fire", action="store_true", help="fire all that are due, once")
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--in", dest="delay_s", type=float, metavar="SECONDS", help="due after so long")
    time.add_argument("--at", metavar="TIME", help="due then: ISO 8601, such as 2026-01-31T08:30+01:00 (without offset: local time)")
    time.add_argument("--cron", metavar="EXPR", help="due whenever this five-field expression says so (extra: cron)")
    parser.add_argument("--tz", default="UTC", metavar="ZONE", help="the time zone of --cron (default: %(default)s)")
    parser.add_argument("--every", dest="interval_s", type=float, metavar="SECONDS", help="and again after so long, from its first time")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.session is None and (args.add is not None or args.cancel is not None):
        raise CommandFailed("--add and --cancel need a SESSION", USAGE)
    if args.session is not None and args.fire:
        raise CommandFailed("--fire takes no SESSION: it fires all timers that are due", USAGE)
    if args.add is None and any(each is not None for each in (args.delay_s, args.at, args.cron, args.interval_s)):
        raise CommandFailed("--in, --at, --cron and --every say when: give --add NOTE too", USAGE)
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    async with opened(args) as store:
        if args.session is not None:
            await store.look(args.session)
        if args.add is not None:
            return await _add(args, store)
        if args.cancel is not None:
            return await _cancel(args, store)
        if args.fire:
            return await _fire(args, store)
        return await _list(args, store)


async def _list(args: argparse.Namespace, store: SessionStore) -> int:
    statuses = ("armed", "fired", "cancelled") if args.all else ("armed",)
    timers = await store.all_timers(session_id=args.session, statuses=statuses, limit=args.limit)
    tell(args, [timer._asdict() for timer in timers], "\n".join(map(_line, timers)) or "no timers")
    return OK


async def _add(args: argparse.Namespace, store: SessionStore) -> int:
    due_at = None if args.at is None else _at(args.at)
    async with StatefulAgentLoop(llm=EchoLLM(), store=store, name="timers") as loop:
        try:
            timer = await loop.schedule_timer(
                args.session, delay_s=args.delay_s, due_at_ms=due_at, note=args.add, interval_s=args.interval_s, cron=args.cron, tz=args.tz
            )
        except ValueError as error:
            raise CommandFailed(_as_options(str(error)), USAGE) from error
    tell(args, timer._asdict(), _line(timer))
    return OK


async def _cancel(args: argparse.Namespace, store: SessionStore) -> int:
    if not await store.transition_timer(args.session, args.cancel, from_status="armed", to_status="cancelled"):
        raise CommandFailed(f"session {args.session!r} has no armed timer {args.cancel}", NOT_FOUND)
    tell(args, {"timer_id": args.cancel, "status": "cancelled"}, f"timer {args.cancel} is cancelled")
    return OK


async def _fire(args: argparse.Namespace, store: SessionStore) -> int:
    count = 0
    with working("firing timers"):
        while fired := await store.fire_due():
            count += fired
    tell(args, {"fired": count}, f"{count} fired")
    return OK


def _line(timer: TimerRow) -> str:
    again = f"cron {timer.cron} {timer.tz}" if timer.cron else f"every {timer.interval_s:g} s" if timer.interval_s else "once"
    status = "" if timer.status == "armed" else timer.status
    return "  ".join(filter(None, [str(timer.timer_id), when(timer.due_at), timer.session_id, again, status, one_line(timer.note)]))


def _at(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise CommandFailed(f"--at {text!r}: write it like 2026-01-31T08:30+01:00", USAGE) from error


def _as_options(said: str) -> str:
    """What the verb says of its parameters, in the words of this command."""
    for name, option in (
        ("delay_s=", "--in"),
        ("delay_s", "--in"),
        ("due_at_ms=", "--at"),
        ("interval_s", "--every"),
        ("cron=", "--cron"),
        ("schedule_timer", "--add"),
    ):
        said = said.replace(name, option)
    return said
