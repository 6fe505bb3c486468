"""``power-loop mcp-serve``: a loop as an MCP server for the program that starts this command."""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import Any

from power_loop.cli.ctrl_c import at_first_ctrl_c
from power_loop.cli.exits import OK, USAGE, CommandFailed
from power_loop.cli.place import add_options
from power_loop.cli.worker import loop_of, refuse_what_the_app_brings
from power_loop.contrib.mcp_server import serve_stdio

ABOUT = (
    "Speaks MCP over stdin and stdout until stdin is closed. The program that started it can hold conversations with the agent (send, "
    "answer, list_sessions, read_session) and sees only those it began. Ctrl-C ends it once stdin is closed, a second one at once. "
    "Over HTTP: power_loop.contrib.mcp_server.asgi_app."
)


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "mcp-serve", help="serve the agent over MCP, on stdin and stdout", description=ABOUT
    )
    parser.add_argument("--app", metavar="MODULE:FACTORY", help="a function that returns the loop, with its model, tools and database")
    parser.add_argument("--model", metavar="PROVIDER:MODEL", help="without --app: such as openai:gpt-4o-mini")
    parser.add_argument("--expose", default="send,sessions", metavar="LIST", help="what of: send, sessions (default: %(default)s)")
    parser.add_argument("--tools", action="store_true", help="the loop's own tools too, but for those that need an approval")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until stdin is closed; the exit code."""
    refuse_what_the_app_brings(args)
    try:
        return asyncio.run(_serve(args))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _serve(args: argparse.Namespace) -> int:
    _let_a_second_ctrl_c_through()
    expose = [name.strip() for name in args.expose.split(",") if name.strip()]
    async with await loop_of(args) as loop:
        try:
            await serve_stdio(loop, expose=expose, tools=args.tools)
        except ValueError as error:
            raise CommandFailed(str(error), USAGE) from error
    return OK


def _let_a_second_ctrl_c_through() -> None:
    """The first one cancels what runs. A thread that reads stdin cannot be cancelled; the second one waits for nobody."""
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        task.cancel()

    at_first_ctrl_c(stop)
