"""``power-loop export``, ``import`` and ``fork``: sessions out of a database, into one, and branched."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from power_loop.cli.exits import FAILED, NOT_FOUND, OK, USAGE, CommandFailed
from power_loop.cli.place import add_options, opened, tell
from power_loop.cli.pretty import working
from power_loop.cli.words import piped


def add(commands: Any) -> None:
    """Offer the three commands to the parser."""
    out: argparse.ArgumentParser = commands.add_parser("export", help="write a session as one JSON archive")
    out.add_argument("session", metavar="SESSION")
    out.add_argument("-o", "--output", metavar="FILE", type=Path, help="into this file, which must not exist yet (default: the screen)")
    out.add_argument("--children", action="store_true", help="with the sessions that hang under it")
    out.set_defaults(run=run_export)
    come: argparse.ArgumentParser = commands.add_parser("import", help="make a session from an archive, also from one of the 3.x line")
    come.add_argument("file", metavar="FILE", type=Path, help="the archive; - reads it from standard input")
    come.add_argument("--keep-timers", action="store_true", help="arm the timers of the archive")
    come.set_defaults(run=run_import)
    fork: argparse.ArgumentParser = commands.add_parser("fork", help="branch a session off into a new one")
    fork.add_argument("session", metavar="SESSION")
    fork.add_argument("--at", type=int, metavar="N", help="behind this send (default: behind the last that ended)")
    fork.set_defaults(run=run_fork)
    for parser in (out, come, fork):
        add_options(parser)


def run_export(args: argparse.Namespace) -> int:
    with working(f"exporting {args.session}"):
        archive = json.dumps(asyncio.run(_export(args)), indent=None if args.output is None else 1)
    if args.output is None:
        print(archive)
        return OK
    try:
        with args.output.open("x", encoding="utf-8") as file:
            file.write(archive)
    except OSError as error:
        raise CommandFailed(f"-o: {args.output} cannot be written: {error}") from error
    tell(args, {"session_id": args.session, "file": str(args.output)}, f"{args.session} -> {args.output}")
    return OK


async def _export(args: argparse.Namespace) -> dict[str, Any]:
    async with opened(args) as store:
        return await store.export_session(args.session, include_children=args.children)


def run_import(args: argparse.Namespace) -> int:
    with working(f"importing {args.file}"):
        return asyncio.run(_import(args, _archive_in(args.file)))


async def _import(args: argparse.Namespace, archive: Any) -> int:
    async with opened(args, create=True) as store:
        try:
            session_id = await store.import_session(archive, timers="keep" if args.keep_timers else "skip")
        except ValueError as error:
            raise CommandFailed(f"{args.file}: {error}", FAILED) from error
    tell(args, {"session_id": session_id}, session_id)
    return OK


def _archive_in(path: Path) -> Any:
    try:
        return json.loads(piped() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error}", USAGE) from error
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{path} is no JSON, or is truncated: {error}", FAILED) from error


def run_fork(args: argparse.Namespace) -> int:
    return asyncio.run(_fork(args))


async def _fork(args: argparse.Namespace) -> int:
    async with opened(args) as store:
        try:
            session_id = await store.fork_session(args.session, at_send=args.at)
        except ValueError as error:  # there is no such send
            raise CommandFailed(str(error), NOT_FOUND) from error
    tell(args, {"session_id": session_id, "forked_from": args.session}, session_id)
    return OK
