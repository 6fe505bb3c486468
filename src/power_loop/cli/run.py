"""``power-loop run``: one prompt, one outcome as JSON; for scripts."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from typing import Any

from power_loop.cli.agent import add_agent_options, agent_loop, refuse_two_loops, system_of
from power_loop.cli.exits import BUSY_OR_PENDING, FAILED, OK, USAGE, CommandFailed
from power_loop.cli.place import add_options
from power_loop.cli.screen import Screen, as_json, seen
from power_loop.cli.words import at_least_one, piped
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.outcome import RunStatus, StatefulResult
from power_loop.contracts.text import check_key
from power_loop.loop import StatefulAgentLoop

ABOUT = (
    "Says one prompt and prints what came of it as one JSON object: status, final_text, output, usage, session_id and the rest of the "
    "result. The exit code is 0 only where the status is completed, 4 where somebody is waited for. On a terminal the tool calls are "
    "shown on standard error meanwhile."
)
WAITS = (RunStatus.PENDING_TOOLS, RunStatus.WAITING_FOR_INPUT)


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("run", help="one prompt, one outcome as JSON", description=ABOUT)
    parser.add_argument("prompt", metavar="PROMPT", help="what to say; - reads it from standard input")
    parser.add_argument("--session", metavar="SESSION", help="the session to say it in (default: a new one)")
    parser.add_argument("--key", metavar="KEY", help="said once: the same key again gives the same outcome and pays nothing")
    parser.add_argument("--max-rounds", type=at_least_one, metavar="N", help="model calls at most")
    parser.add_argument("--text", action="store_true", help="print the answer alone, not the JSON")
    add_agent_options(parser, app=True)
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say it; the exit code."""
    refuse_two_loops(args)
    if args.text and args.json:
        raise CommandFailed("--text prints the answer alone, --json all of the outcome: give one of them", USAGE)
    prompt = piped() if args.prompt == "-" else args.prompt
    if not prompt.strip():
        raise CommandFailed("there is nothing to say: the prompt is empty", USAGE)
    try:
        check_key("--key", args.key)
    except ValueError as error:
        raise CommandFailed(str(error), USAGE) from error
    result = asyncio.run(_said(args, prompt))
    print(seen(result.final_text) if args.text else as_json(result.to_dict(), 2))
    return OK if result.status == RunStatus.COMPLETED else BUSY_OR_PENDING if result.status in WAITS else FAILED


async def _said(args: argparse.Namespace, prompt: str) -> StatefulResult:
    system = system_of(args)
    async with agent_loop(args, "run", session=args.session) as loop:
        if sys.stderr.isatty():
            screen = Screen(sys.stderr)
            for kind in ("tool_call_started", "tool_call_completed", "tool_progress", "llm_retry_attempted"):
                loop.event_bus.subscribe(kind, screen.hear)
        try:
            session = await _session(loop, args, system)
            own = system if args.session else None
            return await loop.send(prompt, session, key=args.key, max_rounds=args.max_rounds, system_prompt=own)
        except ValueError as error:  # of an option
            raise CommandFailed(str(error), USAGE) from error


async def _session(loop: StatefulAgentLoop, args: argparse.Namespace, system: str | None) -> str:
    """The session that was named; else a new one, which a key that was used before finds again."""
    if args.session is not None:
        return args.session
    if args.key is None:
        return await loop.new_session(system_prompt=system)
    session_id = "run_" + hashlib.sha256(args.key.encode()).hexdigest()[:24]
    try:
        return (await (await loop.ensure_store()).get_session(session_id)).session_id
    except SessionNotFoundError:
        return await loop.new_session(system_prompt=system, session_id=session_id)
