"""``power-loop worker``: drives the sessions of a database that have something to do, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import os
import sys
from typing import Any

from power_loop.cli.ctrl_c import at_first_ctrl_c
from power_loop.cli.exits import OK, USAGE, CommandFailed
from power_loop.cli.model import chosen_model
from power_loop.cli.place import add_options, dsn_of, tell
from power_loop.cli.words import at_least_one
from power_loop.loop import StatefulAgentLoop
from power_loop.worker import Worker

ABOUT = (
    "Answers what was enqueued, fires timers, goes on with what others left when they died. Run as many as you like on one database. "
    "SIGTERM or Ctrl-C stops it once its sends are done, a second Ctrl-C at once; what is cut off is due for the next worker."
)


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("worker", help="drive the sessions that have something to do", description=ABOUT)
    parser.add_argument("--app", metavar="MODULE:FACTORY", help="a function that returns the loop, with its model, tools and database")
    parser.add_argument("--concurrency", type=at_least_one, default=8, metavar="N", help="sessions at once (default: %(default)s)")
    parser.add_argument("--agent", action="append", metavar="NAME", help="drive sessions of this agent (default: the loop's own; '*': all)")
    parser.add_argument("--model", metavar="PROVIDER:MODEL", help="without --app: such as openai:gpt-4o-mini")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Work until told to stop; the exit code."""
    refuse_what_the_app_brings(args)
    return asyncio.run(_work(args))


async def _work(args: argparse.Namespace) -> int:
    async with await loop_of(args) as loop:
        worker = Worker(loop, concurrency=args.concurrency, agents=args.agent)
        await loop.ensure_store()
        name, agents = loop.drivers.holder, args.agent or [loop.name]
        tell(args, {"worker": name, "agents": agents}, f"{name} drives sessions of {', '.join(agents)}")
        sys.stdout.flush()
        at_first_ctrl_c(worker.request_stop)
        await worker.run()
    return OK


def refuse_what_the_app_brings(args: argparse.Namespace) -> None:
    """Raise `CommandFailed` where ``--app`` stands beside a database or a model."""
    if args.app is not None and (args.dsn is not None or args.model is not None):
        raise CommandFailed("--app makes its own loop: give it the database and the model there, not here", USAGE)


async def loop_of(args: argparse.Namespace) -> StatefulAgentLoop:
    """The loop of the host's factory, else one with nothing but a model."""
    if args.app is None:
        chosen = chosen_model(args.model)
        if chosen.remark:
            print(chosen.remark, file=sys.stderr)
        return StatefulAgentLoop(llm=chosen.llm, dsn=dsn_of(args), table_prefix=args.prefix)
    made = _factory(args.app)()
    loop = await made if inspect.isawaitable(made) else made
    if not isinstance(loop, StatefulAgentLoop):
        raise CommandFailed(f"--app {args.app} gave {type(loop).__name__}, not a StatefulAgentLoop", USAGE)
    return loop


def _factory(app: str) -> Any:
    """What ``module:name`` names; modules of the folder that the command is called in are found too."""
    module, _, name = app.partition(":")
    if not module or not name:
        raise CommandFailed(f"--app {app}: write it as MODULE:FACTORY", USAGE)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CommandFailed(f"--app {app}: {error}", USAGE) from error
    if not callable(factory):
        raise CommandFailed(f"--app {app}: {name} is not a function that returns the loop", USAGE)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise CommandFailed(f"--app {app}: {name} is called without arguments: {error}", USAGE) from error
    except ValueError:  # of a callable that does not say what it takes
        pass
    return factory
