"""``power-loop completion``: a script that has the shell complete commands, options and their choices.

Made from the parser itself, so that it knows what the parser knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from power_loop.cli.exits import OK

SHELLS = ("bash", "zsh", "fish")
ABOUT = (
    "Prints a script for the shell. bash: source <(power-loop completion bash). zsh: the same with zsh, behind compinit. "
    "fish: power-loop completion fish | source."
)


class Option(NamedTuple):
    """One option, or one positional word, of a command."""

    flags: tuple[str, ...]
    help: str
    takes: str
    """What stands behind it; empty for a mere flag."""
    choices: tuple[str, ...]
    is_file: bool


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("completion", help="a script for the shell that completes", description=ABOUT)
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=partial(run, parsers=commands.choices))


def run(args: argparse.Namespace, parsers: Mapping[str, argparse.ArgumentParser]) -> int:
    """Print the script; the exit code."""
    offered = {name: options_of(parser) for name, parser in parsers.items()}
    print("\n".join(SCRIPTS[args.shell](offered)))
    return OK


def options_of(parser: argparse.ArgumentParser) -> list[Option]:
    """The options and positional words of a command, as it declares them; help and hidden ones are left out."""
    found: list[Option] = []
    for action in parser._actions:  # argparse has no other way to ask
        if action.dest == "help" or action.help == argparse.SUPPRESS:
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        takes = "" if action.nargs == 0 else metavar
        choices = tuple(str(choice) for choice in action.choices or ())
        told = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        found.append(Option(tuple(action.option_strings), told, takes, choices, metavar in ("FILE", "DIR")))
    return found


def _bash(offered: Mapping[str, list[Option]]) -> Iterator[str]:
    yield "_power_loop() {"
    yield '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"'
    yield f'  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{" ".join(offered)} --help --version" -- "$current")); return; fi'
    yield '  case "${COMP_WORDS[1]}" in'
    for name, options in offered.items():
        yield f"    {name})"
        valued = [option for option in options if option.flags and option.takes]
        if valued:
            yield '      case "$before" in'
            for option in valued:
                words = f'-W "{" ".join(option.choices)}"' if option.choices else "-f" if option.is_file else ""
                done = f'COMPREPLY=($(compgen {words} -- "$current"))' if words else "COMPREPLY=()"
                yield f"        {'|'.join(option.flags)}) {done}; return;;"
            yield "      esac"
        words = [flag for option in options for flag in option.flags] + [
            word for option in options if not option.flags for word in option.choices
        ]
        yield f'      COMPREPLY=($(compgen -W "{" ".join([*words, "--help"])}" -- "$current"));;'
    yield "  esac"
    yield "}"
    yield "complete -o default -F _power_loop power-loop"


def _zsh(offered: Mapping[str, list[Option]]) -> Iterator[str]:
    yield "autoload -Uz bashcompinit && bashcompinit"
    yield from _bash(offered)


def _fish(offered: Mapping[str, list[Option]]) -> Iterator[str]:
    yield "complete -c power-loop -f"
    yield f'complete -c power-loop -n __fish_use_subcommand -a "{" ".join(offered)}"'
    for name, options in offered.items():
        within = f'complete -c power-loop -n "__fish_seen_subcommand_from {name}"'
        for option in options:
            words = f' -a "{" ".join(option.choices)}"' if option.choices else ""
            if not option.flags:
                if words:
                    yield within + words
                continue
            flags = "".join(f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}" for flag in option.flags)
            takes = " -r" if option.takes else ""
            yield f"{within}{flags}{takes}{' -F' if option.is_file else ''}{words} -d '{_quoted(option.help)}'"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


SCRIPTS: Mapping[str, Callable[[Mapping[str, list[Option]]], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
