"""The command check: reads a command as bash would, and says what speaks against running it.

A seat belt, no boundary: it sees slips, not intent. What an interpreter (``python3 -c``), a script file, a program of the
workspace or a download does is not judged. Pure: the same command and places give the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from power_loop.tools.shell.expand import SURE, UNKNOWN, Field, Scope, fields, literal_output
from power_loop.tools.shell.parse import TooDeep, parse
from power_loop.tools.shell.places import Places, is_kernels_own, is_raw_device
from power_loop.tools.shell.rules import RUN_TIME, of_its_name, of_its_words, removes_files, run_by_find, searched, shown
from power_loop.tools.shell.words import Loop, Node, Pipeline, Redirect, Simple, Subshell, Substitution, Text, Variable, Word
from power_loop.tools.shell.wrappers import WRAPPERS, unwrapped

SHELLS: Final = frozenset(("bash", "sh", "dash", "ash", "zsh", "ksh", "mksh", "rbash"))
DECLARES: Final = frozenset(("export", "declare", "local", "readonly", "typeset"))
# They hand their words to a shell, joined.
JOINS: Final = frozenset(("eval", "watch", "parallel"))
# They take a whole command as the value of this option.
TAKES_TEXT: Final[dict[str, tuple[str, ...]]] = {
    "flock": ("-c", "--command"), "script": ("-c", "--command"), "env": ("-S", "--split-string"), "xterm": ("-e",),
}  # fmt: skip
# Letters of their options that take another value: what follows one is no option.
VALUED: Final[dict[str, str]] = {"script": "IOBTmEo", **{name: WRAPPERS[name].valued for name in ("flock", "env")}}
WRITES: Final = frozenset((">", ">>", ">|", ">&", "&>", "&>>", "<>"))
# Longer ones are for files; reading them would take longer than running them.
MAX_CHARS: Final = 300_000


def check_command(command: str, places: Places | None = None) -> str | None:
    """Why this command is refused, or None."""
    places = places or Places()
    if len(command) > MAX_CHARS:
        return "the command is too long to be looked at; write it to a file and run that"
    scope = Scope(places.user_home, places.home, places.workspace or None)
    try:
        return Check(places, 0).program(parse(command), scope)
    except (TooDeep, RecursionError):
        return "the command is nested too deeply to be looked at"


class Feed(NamedTuple):
    """What a command reads from the one before it in a pipeline."""

    text: str | None = None
    """The text, where it is known."""
    removed_if_listed: Field | None = None
    """It lists what is below this protected folder."""


class Check:
    """The walk over one program; ``depth`` counts the texts that were programs themselves."""

    def __init__(self, places: Places, depth: int) -> None:
        self._places, self._depth = places, depth

    def program(self, nodes: Sequence[Node], scope: Scope) -> str | None:
        for node in nodes:
            if (reason := self._node(node, scope, Feed())) is not None:
                return reason
        return None

    def text(self, text: str, scope: Scope) -> str | None:
        """A text that a shell runs."""
        inner = Check(self._places, self._depth + 1)
        return inner.program(parse(text, self._depth + 1), scope)

    # --- nodes ----------------------------------------------------------------------------------------

    def _node(self, node: Node, scope: Scope, feed: Feed) -> str | None:
        if isinstance(node, Simple):
            return self._simple(node, scope, feed)
        if isinstance(node, Pipeline):
            return self._pipeline(node.commands, scope)
        if isinstance(node, Subshell):
            return self.program(node.program, scope.inner())
        reason = self._inside(node.words, scope)
        if isinstance(node, Loop):
            scope.assign(node.name, node.words)
            return reason
        return reason or self.program(node.program, scope)

    def _pipeline(self, commands: Sequence[Node], scope: Scope) -> str | None:
        if reason := self._node(commands[0], scope.inner(), Feed()):
            return reason
        for before, command in pairwise(commands):
            if reason := self._node(command, scope.inner(), self._fed_by(before, scope)):
                return reason
        return None

    def _fed_by(self, node: Node, scope: Scope) -> Feed:
        if not isinstance(node, Simple):
            return Feed()
        argv = argv_of(node, scope)
        if [field.text for field in argv] in (["cat"], ["cat", "-"]) and (body := _body(node, scope)) is not None:
            return Feed(body)
        return Feed(literal_output(argv), searched(argv, scope.cwd, self._places))

    def _simple(self, command: Simple, scope: Scope, feed: Feed) -> str | None:
        words = [*command.words, *(word for _, words in command.assigned for word in words)]
        words += [*command.subscripts, *(redirect.target for redirect in command.redirects)]
        words += [redirect.body for redirect in command.redirects if redirect.body is not None]
        reason = self._inside(words, scope) or self._redirects(command.redirects, scope)
        if reason is not None:
            return reason
        if not command.words:
            for name, values in command.assigned:
                scope.assign(name, values)
            return None
        if (body := _body(command, scope)) is not None:
            feed = Feed(body)
        if is_put_together(command.words[0]):
            return RUN_TIME
        return self._declared(command, scope) or self._argv(argv_of(command, scope), scope, feed)

    def _inside(self, words: Sequence[Word], scope: Scope) -> str | None:
        """What runs while the words are put together."""
        for word in words:
            for part in word:
                reason = None
                if isinstance(part, Substitution):
                    reason = self.program(part.program, scope.inner())
                elif isinstance(part, Variable):
                    reason = self._inside([part.instead or (), part.beside], scope)
                if reason is not None:
                    return reason
        return None

    def _redirects(self, redirects: Sequence[Redirect], scope: Scope) -> str | None:
        for redirect in redirects:
            for target in fields(redirect.target, scope):
                if redirect.op in WRITES and is_raw_device(target, scope.cwd):
                    return f"it writes to the device {shown(target)}"
                if not redirect.op.startswith("<<") and is_kernels_own(target, scope.cwd, self._places):
                    return f"{shown(target)} lies in the folder that power-loop keeps for itself"
        return None

    def _declared(self, command: Simple, scope: Scope) -> None:
        """``export NAME=value``: the variable is known from here on."""
        if command.words and "".join(part.text for part in command.words[0] if isinstance(part, Text)) in DECLARES:
            for word in command.words[1:]:
                for field in fields(word, scope, split=False):
                    name, equals, value = field.text.partition("=")
                    if equals:
                        scope.assign(name, [(Text(value, True),)])

    # --- commands -------------------------------------------------------------------------------------

    def _argv(self, argv: Sequence[Field], scope: Scope, feed: Feed) -> str | None:
        """One command, its words known as far as they can be."""
        if not argv or not argv[0].text:
            return None
        if (reason := of_its_name(argv) or of_its_words(argv, scope.cwd, self._places)) is not None:
            return reason
        name = argv[0].base
        if name in ("cd", "pushd", "chdir"):
            scope.cwd = directory_after(argv, scope)
        if name in SHELLS:
            return self._shell(argv, scope, feed)
        if name == "trap":
            operands = argv[2:] if len(argv) > 1 and argv[1].text == "--" else argv[1:]
            return self.text(operands[0].text, scope) if len(operands) > 1 else None
        for option in TAKES_TEXT.get(name, ()):
            for text in values_of(argv, option):
                if reason := self.text(text, scope.inner()):
                    return reason
        for command in run_by_find(argv) if name == "find" else ():
            if reason := self._argv(command, scope.inner(), Feed()):
                return reason
        return self._wrapped(argv, scope, feed) if name in WRAPPERS or name in JOINS else None

    def _wrapped(self, argv: Sequence[Field], scope: Scope, feed: Feed) -> str | None:
        name = argv[0].base
        inner = unwrapped(argv) if name in WRAPPERS else list(argv[1:])
        if name == "eval" and inner and inner[0].text == "--":
            inner = inner[1:]
        if not inner:
            return None
        if name == "xargs":
            if feed.removed_if_listed is not None and removes_files(inner):
                return f"it removes what find lists below {shown(feed.removed_if_listed)}"
            inner += [Field(SURE)] if feed.text is None else [Field(text) for text in feed.text.split()]
        if name in JOINS:
            return self.text(" ".join(field.text for field in inner), scope)
        return self._argv(inner, scope, feed)

    def _shell(self, argv: Sequence[Field], scope: Scope, feed: Feed) -> str | None:
        """``bash -c TEXT``, or a text that comes in."""
        at, runs_text, reads = 1, False, False
        while at < len(argv) and argv[at].text[:1] in ("-", "+") and len(argv[at].text) > 1:
            text = argv[at].text
            at += 2 if text in ("--rcfile", "--init-file") or (not text.startswith("--") and text[-1] in "oO") else 1
            if text == "--":
                break
            runs_text |= not text.startswith("--") and "c" in text
            reads |= not text.startswith("--") and "s" in text
        operands = argv[at:]
        if runs_text and operands:
            inner = scope.inner()
            for number, field in enumerate(operands[1:]):
                inner.variables[str(number)] = [field.text]
            inner.variables["@"] = inner.variables["*"] = [" ".join(field.text for field in operands[2:])]
            return self.text(operands[0].text, inner)
        if (reads or not operands or operands[0].text == "-") and feed.text is not None:
            return self.text(feed.text, scope.inner())
        return None


def is_put_together(word: Word) -> bool:
    """The last path part of this program's name holds an expansion."""
    for part in reversed(word):
        if not isinstance(part, Text):
            return True
        if "/" in part.text:
            return False
    return False


def _body(command: Simple, scope: Scope) -> str | None:
    """The text of the last here-document, which is what the command reads; None where it has none."""
    bodies = [redirect.body for redirect in command.redirects if redirect.body is not None]
    return "".join(field.text for field in fields(bodies[-1], scope, split=False)) if bodies else None


def argv_of(command: Simple, scope: Scope) -> list[Field]:
    return [field for word in command.words for field in fields(word, scope)]


def directory_after(argv: Sequence[Field], scope: Scope) -> str | None:
    """Where ``cd`` leads; None when only the run can tell."""
    operands = [field for field in argv[1:] if not field.text.startswith("-") or field.text == "-"]
    if not operands:
        return scope.user_home
    text = operands[0].text
    if text == "-" or UNKNOWN in text or SURE in text or operands[0].glob:
        return None
    return text if text.startswith("/") else f"{scope.cwd}/{text}" if scope.cwd else None


def values_of(argv: Sequence[Field], option: str) -> list[str]:
    """What the option is given: joined to it, or the next word. Letters of options without a value may stand before its own."""
    if option.startswith("--"):
        found = [after.text for before, after in pairwise(argv) if before.text == option]
        return found + [field.text.removeprefix(f"{option}=") for field in argv[1:] if field.text.startswith(f"{option}=")]
    found = list[str]()
    for at, field in enumerate(argv):
        before, its_letter, joined = field.text.partition(option[1])
        if its_letter and re.fullmatch(r"-[a-zA-Z0-9]*", before) and not set(before) & set(VALUED.get(argv[0].base, "")):
            found += [joined] if joined else [after.text for after in argv[at + 1 : at + 2]]
    return found
