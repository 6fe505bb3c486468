"""The command ``power-loop``: which commands there are, and how a failure becomes one line and an exit code.

Each command is a module with ``add(commands)`` and ``run(args) -> int``; this file knows no more of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from power_loop.cli import archive, chat, completion, doctor, inspect, mcp, run, schema, sessions, tail, timers, worker, workflow
from power_loop.cli.examples import give_examples
from power_loop.cli.exits import CommandFailed, complain
from power_loop.cli.place import add_options_before_a_command
from power_loop.contracts.errors import PowerLoopError
from power_loop.version import __version__

COMMANDS = (chat, run, tail, sessions, inspect, archive, doctor, schema, worker, timers, workflow, mcp, completion)

EXAMPLES = """\
examples:
  power-loop chat                                    a new session in ./power_loop_sessions.db
  power-loop chat sess_0123... --dsn app.db          go on with a session of app.db
  power-loop chat --model openai:gpt-4o-mini         with OPENAI_API_KEY set
  echo "Name a colour." | power-loop chat --dsn app.db
  power-loop run "Name a colour."                    one prompt, its outcome as JSON
  power-loop tail sess_0123... --dsn app.db          what happens in it, in whichever process
  power-loop sessions; power-loop show sess_0123...  which there are, and what was said in one
  power-loop inspect --open                          the same in the browser, on this machine only
  power-loop doctor sess_0123... --repair            why it does not go on, and what can be done
  power-loop worker --app shop.agent:make_loop       drive what waits, beside other workers
  power-loop schema show --dsn postgresql://db/app   the tables, for whoever may create them

environment:
  POWER_LOOP_BASE_URL, POWER_LOOP_API_KEY, POWER_LOOP_MODEL, POWER_LOOP_PROVIDER     the model
  POWER_LOOP_DSN                                                                     the database

exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 busy or pending
"""

# What a shell reports for a command that Ctrl-C ended: 128 and the number of SIGINT.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Raises `SystemExit` for ``--help``, ``--version`` and wrong usage, as argparse does."""
    _have_streams_that_never_fail_at_a_character()
    parser = parser_of_all()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _without_output()  # whoever read it has left
    except OSError as error:
        return _without_output(complain(error))
    except (CommandFailed, PowerLoopError, ImportError) as error:
        return complain(error)


def _without_output(code: int = 1) -> int:
    """``code``; what is still buffered can go nowhere, and goes there silently."""
    with contextlib.suppress(OSError, ValueError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def parser_of_all() -> argparse.ArgumentParser:
    """The parser of the command, with all that it offers."""
    parser = argparse.ArgumentParser(
        prog="power-loop",
        description="Durable conversations with agents, from the command line.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"power-loop {__version__}")
    add_options_before_a_command(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add(commands)
    give_examples(commands.choices)
    return parser


def _have_streams_that_never_fail_at_a_character() -> None:
    """A terminal that lacks a character shows another in its place; what is typed wrongly is replaced, not refused."""
    for name in ("stdin", "stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:  # whoever started us closed it
            stream = Path(os.devnull).open("r" if name == "stdin" else "w")  # noqa: SIM115 - it stays open as long as the process
            setattr(sys, name, stream)
        with contextlib.suppress(ValueError):  # a stream that was read from already
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
