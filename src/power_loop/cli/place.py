"""Which database a command works on, and how its answer is printed: ``--dsn``, ``--prefix``, ``--json``."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from power_loop.cli.exits import FAILED, NOT_FOUND, USAGE, CommandFailed, first_line
from power_loop.cli.screen import as_json
from power_loop.contracts.errors import StoreSchemaError
from power_loop.contracts.store import SchemaPolicy
from power_loop.loop import DEFAULT_DB_PATH
from power_loop.store.dsn import parse_dsn
from power_loop.store.open import check_dsn
from power_loop.store.schema import check_prefix
from power_loop.store.sql_store import SessionStore, open_store


def add_options(parser: argparse.ArgumentParser, *, json: str = "answer as JSON") -> None:
    """The options that every command has which looks into a database. What is not given after it may stand before it."""
    parser.add_argument("--dsn", default=argparse.SUPPRESS, help=f"the database (default: POWER_LOOP_DSN, else {DEFAULT_DB_PATH})")
    parser.add_argument("--prefix", default=argparse.SUPPRESS, help="prefix of its tables (default: pl_)")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=json)


def add_options_before_a_command(parser: argparse.ArgumentParser) -> None:
    """The same options of the program itself; what stands after the command counts."""
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    parser.add_argument("--prefix", default="pl_", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def dsn_of(args: argparse.Namespace) -> str:
    """The DSN that was given, or is set, or is the default. Raises `CommandFailed` for one that is none, and for such a prefix."""
    dsn: str = args.dsn if args.dsn is not None else os.environ.get("POWER_LOOP_DSN", "").strip() or DEFAULT_DB_PATH
    for option, value, check in (("--dsn", dsn, check_dsn), ("--prefix", args.prefix, check_prefix)):
        try:
            check(value)
        except ValueError as error:
            raise CommandFailed(f"{option}: {error}", USAGE) from error
    return dsn


@asynccontextmanager
async def opened(args: argparse.Namespace, *, create: bool = False) -> AsyncGenerator[SessionStore]:
    """The store, closed afterwards. Without ``create`` a file, or tables, that are not there are an error, and are not made."""
    dsn = dsn_of(args)
    parsed = parse_dsn(dsn)
    if not create and parsed.engine == "sqlite" and not is_there(parsed.path):
        raise CommandFailed(f"there is no database {parsed.path}", NOT_FOUND)
    try:
        policy = SchemaPolicy.AUTO_CREATE if create else SchemaPolicy.VERIFY
        store = await open_store(dsn, table_prefix=args.prefix, schema=policy)
    except StoreSchemaError as error:
        raise not_ours_to_make(error) from error
    try:
        yield store
    finally:
        await store.close()


def not_ours_to_make(error: StoreSchemaError) -> Exception:
    """For whoever looks on, and so creates and migrates nothing: ``error``, and who does, where a script can help."""
    if not error.ddl:
        return error
    return CommandFailed(f"{first_line(error).partition(';')[0]}; `power-loop schema apply` makes it", FAILED)


def is_there(path: str) -> bool:
    return Path(path).exists()


def tell(args: argparse.Namespace, data: Any, text: str) -> None:
    """``data`` as JSON when that was asked for, else ``text``."""
    print(as_json(data, 2) if args.json else text)
