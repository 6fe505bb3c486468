"""``power-loop inspect``: the inspector in the browser, on this machine only."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import webbrowser
from typing import Any

from power_loop.cli.exits import NOT_FOUND, OK, USAGE, CommandFailed
from power_loop.cli.place import add_options, dsn_of, is_there, not_ours_to_make, tell
from power_loop.contracts.errors import StoreSchemaError
from power_loop.store.dsn import parse_dsn

ABOUT = (
    "Shows the sessions of a database in the browser: what was said and done, what it cost, why it waits, and what happens now. "
    "It answers on 127.0.0.1 only, to whoever opens the link that it prints, which works once. It changes nothing, unless "
    "--allow-actions lets questions be answered and approvals be decided. Keys, passwords and tokens are hidden, unless --show-secrets "
    "shows them. Ctrl-C ends it."
)


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("inspect", help="look at the sessions in the browser", description=ABOUT)
    parser.add_argument("--port", type=int, default=0, metavar="N", help="the port (default: a free one)")
    parser.add_argument("--open", action="store_true", help="open the browser")
    parser.add_argument("--allow-actions", action="store_true", help="let questions be answered and approvals be decided")
    parser.add_argument("--show-secrets", action="store_true", help="show what looks like a key, a password or a token, instead of ***")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; the exit code."""
    parsed = parse_dsn(dsn_of(args))
    if parsed.engine == "sqlite" and not is_there(parsed.path):
        raise CommandFailed(f"there is no database {parsed.path}", NOT_FOUND)
    try:
        from power_loop.inspector.server import serve
    except ImportError as error:
        raise ImportError("the inspector needs Starlette and uvicorn: pip install 'power-loop[inspect]'") from error
    try:
        door = socket.create_server(("127.0.0.1", args.port))
    except (OSError, OverflowError) as error:
        raise CommandFailed(f"--port {args.port}: {error}", USAGE) from error

    def told(link: str) -> None:
        tell(args, {"url": link}, f"inspector: {link}")
        sys.stdout.flush()
        if args.open:
            webbrowser.open(link)

    how = {"allow_actions": args.allow_actions, "show_secrets": args.show_secrets}
    with door:
        try:
            asyncio.run(serve(dsn_of(args), door, table_prefix=args.prefix, told=told, **how))
        except StoreSchemaError as error:
            raise not_ours_to_make(error) from error
    return OK
