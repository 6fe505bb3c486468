"""The agent that ``chat``, ``run`` and ``workflow`` talk to: its model, its tools, its prompt, as options say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from power_loop.cli.exits import NOT_FOUND, USAGE, CommandFailed
from power_loop.cli.model import chosen_model
from power_loop.cli.place import dsn_of, is_there
from power_loop.cli.worker import loop_of
from power_loop.config import AgentLoopConfig, RunPolicy
from power_loop.contracts.errors import RuntimeEnvError
from power_loop.loop import StatefulAgentLoop
from power_loop.store.dsn import parse_dsn
from power_loop.tools.presets import TOOL_PRESETS, create_default_tool_registry
from power_loop.tools.toolbox import ToolRegistry


def add_agent_options(parser: argparse.ArgumentParser, *, app: bool = False) -> None:
    """The options of whoever talks to a model; ``app``: of the host's own loop, too."""
    if app:
        about = "a function that returns the loop, with its model, tools and database"
        parser.add_argument("--app", metavar="MODULE:FACTORY", help=about)
    parser.add_argument("--model", metavar="PROVIDER:MODEL", help="such as openai:gpt-4o-mini (default: as POWER_LOOP_MODEL etc. say)")
    parser.add_argument("--tools", choices=sorted(TOOL_PRESETS), help="offer a set of the built-in tools (default: none)")
    parser.add_argument("--workspace", metavar="DIR", type=Path, help="the folder that they work in (default: POWER_LOOP_WORKSPACE)")
    parser.add_argument("--system", metavar="FILE", type=Path, help="a file with the system prompt; a new session keeps it")


def tools_of(args: argparse.Namespace) -> ToolRegistry | None:
    """The built-in tools that were asked for. Raises `CommandFailed` where they have no place to work in."""
    if args.tools is None:
        if args.workspace is not None:
            raise CommandFailed("--workspace is where tools work: give --tools too", USAGE)
        return None
    if args.workspace is not None and not args.workspace.is_dir():
        raise CommandFailed(f"--workspace: there is no folder {args.workspace}", USAGE)
    try:
        return create_default_tool_registry(preset=args.tools, workspace_dir=args.workspace)
    except RuntimeEnvError as error:
        raise CommandFailed(f"--tools {args.tools} works in a folder: give --workspace DIR, or set POWER_LOOP_WORKSPACE", USAGE) from error


def system_of(args: argparse.Namespace) -> str | None:
    """What the file with the system prompt holds."""
    if args.system is None:
        return None
    try:
        return args.system.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"--system: {args.system} cannot be read: {error}", USAGE) from error


def refuse_unusable(dsn: str, session: str | None) -> None:
    """Raise `CommandFailed` for a session of a file that is not there, which would be created."""
    parsed = parse_dsn(dsn)
    if session is not None and parsed.engine == "sqlite" and not is_there(parsed.path):
        raise CommandFailed(f"no session {session!r}: there is no database {parsed.path}", NOT_FOUND)


def refuse_two_loops(args: argparse.Namespace) -> None:
    """Raise `CommandFailed` where ``--app`` stands beside what it brings along."""
    if args.app is not None and any(given is not None for given in (args.dsn, args.model, args.tools, args.workspace)):
        raise CommandFailed("--app makes its own loop: give it the database, the model and the tools there, not here", USAGE)


@asynccontextmanager
async def agent_loop(args: argparse.Namespace, name: str, *, session: str | None = None) -> AsyncGenerator[StatefulAgentLoop]:
    """The host's own loop, else the one that the options describe; closed afterwards.

    Raises `CommandFailed` for what they cannot mean, and for a ``session`` of a database that is not there.
    """
    if args.app is not None:
        async with await loop_of(args) as loop:
            yield loop
        return
    dsn = dsn_of(args)
    refuse_unusable(dsn, session)
    tools, chosen = tools_of(args), chosen_model(args.model)
    if chosen.remark:
        print(chosen.remark, file=sys.stderr)
    config = AgentLoopConfig(running=RunPolicy(on_busy="raise"))
    try:
        async with StatefulAgentLoop(
            llm=chosen.llm, dsn=dsn, table_prefix=args.prefix, config=config, tool_registry=tools, name=name
        ) as loop:  # fmt: skip
            yield loop
    finally:
        await chosen.llm.close()
