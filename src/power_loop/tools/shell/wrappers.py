"""Programs that run another command, and how it is found among their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from power_loop.tools.shell.expand import Field


class Wrapper(NamedTuple):
    """How the arguments of one program are read up to the command that it runs."""

    valued: str = ""
    """Letters of options that take a value."""
    valued_long: tuple[str, ...] = ()
    before: int = 0
    """Words that stand before the command."""
    assigns: bool = False
    """``NAME=value`` may stand before the command."""
    asks: str = ""
    """Letters of options with which nothing is run."""


WRAPPERS: Final[Mapping[str, Wrapper]] = {
    "command": Wrapper(asks="vV"),
    "builtin": Wrapper(),
    "exec": Wrapper("a"),
    "nohup": Wrapper(),
    "!": Wrapper(),
    "time": Wrapper("fo", ("format", "output")),
    "nice": Wrapper("n", ("adjustment",)),
    "ionice": Wrapper("cnpPu", ("class", "classdata")),
    "chrt": Wrapper("TPD", (), 1),
    "taskset": Wrapper("", (), 1),
    "timeout": Wrapper("ks", ("kill-after", "signal"), 1),
    "stdbuf": Wrapper("ioe", ("input", "output", "error")),
    "setsid": Wrapper(),
    "setarch": Wrapper(),
    "unbuffer": Wrapper(),
    "caffeinate": Wrapper("tw"),
    "env": Wrapper("uCS", ("unset", "chdir", "split-string", "block-signal"), assigns=True),
    "xargs": Wrapper("IdEnLPsa", ("max-args", "max-procs", "max-lines", "max-chars", "delimiter", "arg-file", "replace", "eof")),
    "parallel": Wrapper("jIaN", ("jobs", "arg-file", "joblog", "delay", "timeout", "retries")),
    "strace": Wrapper("eopsaEuISPXbO", ()),
    "ltrace": Wrapper("eopsaunFl", ()),
    "chroot": Wrapper("", ("userspec", "groups"), 1),
    "unshare": Wrapper("SGRw", ("setuid", "setgid", "root", "wd")),
    "nsenter": Wrapper("tSG", ("target", "setuid", "setgid")),
    "flock": Wrapper("wE", ("timeout", "wait", "conflict-exit-code"), 1),
    "watch": Wrapper("n", ("interval",)),
    "busybox": Wrapper(),
    "toybox": Wrapper(),
    "prlimit": Wrapper("p", ("pid",)),
    "systemd-run": Wrapper("pEMHt", ("unit", "property", "setenv", "slice", "uid", "gid", "description")),
    "coproc": Wrapper(),
    "noglob": Wrapper(),
    "nocorrect": Wrapper(),
}


def unwrapped(argv: Sequence[Field]) -> list[Field]:
    """The command that the wrapper ``argv[0]`` runs; empty where it runs none."""
    wrapper = WRAPPERS[argv[0].base]
    at, before = 1, wrapper.before
    while at < len(argv):
        text = argv[at].text
        if text == "--":
            at += 1
            while before and at < len(argv):
                at, before = at + 1, before - 1
            break
        if text.startswith("--"):
            name, equals, _ = text[2:].partition("=")
            at += 1 if equals or not any(long.startswith(name) for long in wrapper.valued_long) else 2
        elif text.startswith("-"):
            letters = text[1:]
            if any(letter in wrapper.asks for letter in letters):
                return []
            at += 2 if _takes_the_next(letters, wrapper.valued) else 1
        elif (wrapper.assigns and "=" in text) or before:
            before -= 0 if wrapper.assigns and "=" in text else 1
            at += 1
        else:
            break
    return list(argv[at:])


def innermost(argv: Sequence[Field]) -> list[Field]:
    """The command behind all wrappers; empty where none is run."""
    command = list(argv)
    while command and command[0].base in WRAPPERS:
        command = unwrapped(command)
    return command


def _takes_the_next(letters: str, valued: str) -> bool:
    """The value of the last option among ``letters`` is the next word; else it is joined to its letter, or there is none."""
    first = next((at for at, letter in enumerate(letters) if letter in valued), None)
    return first == len(letters) - 1
