"""docs/cli-reference.md, from the parser of ``power-loop``: every command, option and example."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from power_loop.cli import parser_of_all
from power_loop.cli.completion import Option, options_of
from power_loop.cli.examples import EXAMPLES

PAGE = Path(__file__).parent.parent / "docs" / "cli-reference.md"
HEAD = """# Command line reference

Every command of `power-loop`, with all that it takes. Written by `make map` from the parser itself; what to use when is told in
[the guide](guides/cli.md).

| exit code | |
|---|---|
| 0 | ok |
| 1 | failed: a send, an archive that is not sound, a database that cannot be used; or nobody reads the output any more |
| 2 | wrong usage |
| 3 | no such session, send, timer, run or database file |
| 4 | busy or pending: another process runs the session, or somebody is waited for |
| 130 | Ctrl-C |

An error is one line on standard error, beginning with `power-loop:`; for a command or option that is none, the usage stands above it.
"""


def page() -> str:
    parser = parser_of_all()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    parts = [HEAD]
    for name, command in commands.choices.items():
        parts.append("\n".join(section(name, told[name], command)))
    return "\n".join(parts)


def section(name: str, told: str, command: argparse.ArgumentParser) -> Iterator[str]:
    options = options_of(command)
    yield f"## {name}\n"
    yield f"{_cell(told[:1].upper() + told[1:])}.\n"
    yield "```"
    yield from (f"{typed}\n    {does}" for typed, does in EXAMPLES[name])
    yield "```\n"
    if command.description:
        yield f"{_cell(command.description)}\n"
    yield "| | |"
    yield "|---|---|"
    for option in options:
        yield f"| {_spelled(option)} | {_cell(option.help)} |"
    yield ""


def _spelled(option: Option) -> str:
    takes = ("|".join(option.choices) or option.takes).replace("|", "\\|")
    if not option.flags:
        return f"`{takes}`"
    return ", ".join(f"`{flag} {takes}`" if takes else f"`{flag}`" for flag in option.flags)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def files() -> dict[Path, str]:
    return {PAGE: page()}
