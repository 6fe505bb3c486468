"""``power-loop doctor``: what is the matter with a session, and what would put it right."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any

from power_loop.cli.exits import BUSY_OR_PENDING, OK
from power_loop.cli.place import add_options, opened, tell
from power_loop.cli.pretty import working
from power_loop.cli.screen import one_line
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.runtime.doctor import doctor

# A finding is read to its end, unless it quotes a whole novel.
FINDING_CHARS = 600


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    about = "Says where a session stands and what a resume would run. The exit code is 4 while something is left to do."
    parser: argparse.ArgumentParser = commands.add_parser("doctor", help="explain, and repair, a session that is stuck", description=about)
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("--repair", action="store_true", help="do what can be done without asking anybody; nothing is deleted")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with working(f"examining {args.session}"):
        found = asyncio.run(_examine(args))
    data = {**found._asdict(), "findings": [finding._asdict() for finding in found.findings]}
    tell(args, data, "\n".join(_lines(found)))
    return BUSY_OR_PENDING if found.findings else OK


async def _examine(args: argparse.Namespace) -> Diagnosis:
    async with opened(args) as store:
        return await doctor(store, args.session, repair=args.repair)


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"{found.session_id}: {found.state}{'' if found.findings else ', nothing is the matter'}"
    for finding in found.findings:
        yield f"  {finding.code}: {one_line(finding.text, FINDING_CHARS)}"
        if finding.fix:
            yield f"    {'repair does it; or ' if finding.automatic else ''}{one_line(finding.fix, FINDING_CHARS)}"
