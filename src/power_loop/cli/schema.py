"""``power-loop schema``: the tables as a script, looked at, or created and migrated."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from power_loop.cli.exits import FAILED, OK
from power_loop.cli.place import add_options, dsn_of, tell
from power_loop.cli.pretty import working
from power_loop.contracts.errors import StoreSchemaError
from power_loop.contracts.store import SchemaPolicy
from power_loop.store.open import ddl_of, open_database
from power_loop.store.schema import as_script
from power_loop.store.tables import SCHEMA


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    about = (
        "show: print the script that creates the tables. check: see whether they are right; nothing is changed. apply: create or migrate."
    )
    parser: argparse.ArgumentParser = commands.add_parser("schema", help="the tables: show, check or apply", description=about)
    parser.add_argument("verb", choices=("show", "check", "apply"))
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    dsn = dsn_of(args)
    if args.verb == "show":
        statements = ddl_of(dsn, table_prefix=args.prefix)
        tell(args, {"version": SCHEMA.version, "ddl": statements}, as_script(statements).rstrip())
        return OK
    with working("checking the schema" if args.verb == "check" else "applying the schema"):
        return asyncio.run(_open(dsn, args))


async def _open(dsn: str, args: argparse.Namespace) -> int:
    policy = SchemaPolicy.VERIFY if args.verb == "check" else SchemaPolicy.AUTO_CREATE
    try:
        opened = await open_database(dsn, schema_policy=policy, table_prefix=args.prefix)
    except StoreSchemaError as error:
        tell(args, {"ok": False, "version": SCHEMA.version, "reason": str(error).splitlines()[0], "ddl": error.ddl}, str(error))
        return FAILED
    await opened.database.close()
    tell(args, {"ok": True, "version": SCHEMA.version}, f"the schema is right: version {SCHEMA.version}")
    return OK
