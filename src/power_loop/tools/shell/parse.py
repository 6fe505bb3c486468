"""Reads a bash command the way bash splits it: quotes, expansions, substitutions, here-documents, compound commands.

Meant for looking at what would run, not for running it: it never fails. What is not finished is read to its end, and
words that close a compound command are passed over.
"""

from __future__ import annotations

import re
from typing import Final

from power_loop.tools.shell.reader import META, NAME, WordReader
from power_loop.tools.shell.words import Block, Loop, Node, Pipeline, Redirect, Simple, Subshell, Text, Word

# Deeper than anybody writes; a reader that recurses must stop somewhere.
MAX_DEPTH: Final = 40

# They stand before a command; a command follows, on this line or the next.
OPENERS = ("if", "then", "elif", "else", "while", "until", "do", "{", "!", "coproc")
# They end a compound command; redirections may follow.
CLOSERS = ("fi", "done", "}")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?\+?=")
REDIRECT = re.compile(r"(?:\d+|\{[A-Za-z_]\w*\})?(<<<|<<-|<<|<&|<>|>>|>&|>\||<(?!\()|>(?!\())|(&>>|&>)")
PARAMETERS = re.compile(r"[ \t]*\([ \t]*\)")
# Before a compound command only; a simple one begins with what would be the name.
NAME_OF_A_COPROCESS = re.compile(r"[A-Za-z_]\w*[ \t]+(?=[{(]|(?:if|while|until|for|case|select|\[\[)[ \t\n])")
BRANCH_END = re.compile(r";;&|;;|;&")


class TooDeep(Exception):
    """Nested, or multiplied, beyond what is read."""


def parse(command: str, depth: int = 0) -> list[Node]:
    """The commands in it, in order. Raises `TooDeep`."""
    return Parser(command, depth).program("")


class Parser(WordReader):
    """Programs, pipelines, simple commands."""

    at: int
    depth: int

    def __init__(self, text: str, depth: int = 0) -> None:
        super().__init__(text, depth)
        self._bodies: list[tuple[Redirect, str, bool, bool]] = []
        """Here-documents that begin with the next line: (redirect, delimiter, tabs are stripped, delimiter was quoted)."""

    # --- programs -------------------------------------------------------------------------------------

    def program(self, closer: str) -> list[Node]:
        """Commands up to ``closer``, which is consumed: ``)``, ``case`` for the end of a case's branch, or nothing."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeep
        nodes: list[Node] = []
        while not self._closed(closer):
            begun = self.at
            nodes += self._pipeline(closer)
            if self.at == begun:
                self.at += 1  # a character that no command begins with
        self.depth -= 1
        return nodes

    def _closed(self, closer: str) -> bool:
        self.space(lines=True)
        if self.at >= len(self.text):
            return True
        if closer == ")" and self.peek(")"):
            self.at += 1
            return True
        if closer == "case":
            ending = BRANCH_END.match(self.text, self.at)
            if ending:
                self.at = ending.end()
            return bool(ending) or self.at_word("esac")
        return False

    def _pipeline(self, closer: str) -> list[Node]:
        """The commands of one pipeline, as one node; empty at a separator."""
        commands: list[Node] = []
        while True:
            self.space(lines=bool(commands))
            commands += self._command()
            self.space()
            if self.peek("||") or not self.peek("|"):
                break
            self.at += 2 if self.peek("|&") else 1
        if BRANCH_END.match(self.text, self.at) and closer == "case":
            return [Pipeline(commands)] if len(commands) > 1 else commands
        if self.peek("&") or self.peek(";") or self.peek("|"):
            self.at += 2 if self.text[self.at : self.at + 2] in ("&&", "||") else 1
        return [Pipeline(commands)] if len(commands) > 1 else commands

    def _command(self) -> list[Node]:
        self._pass_keywords()
        if self.peek("((") and (end := self.arithmetic_end(self.at + 2)) is not None:
            inner, self.at = self.text[self.at + 2 : end], end + 2
            return [Block([], [self.quoted_text(inner)])]
        if self.peek("("):
            self.at += 1
            return [Subshell(self.program(")")), *self._simple()]
        if self.at_word("[["):
            return [self._test()]
        for keyword, read in (("for", self._loop), ("select", self._loop), ("case", self._case), ("function", self._function)):
            if self.at_word(keyword):
                self.at += len(keyword)
                return read()
        return self._simple()

    def _pass_keywords(self) -> None:
        while True:
            if word := next((word for word in OPENERS if self.at_word(word)), None):
                self.at += len(word)
                self.space(lines=True)
                if word == "coproc" and (name := NAME_OF_A_COPROCESS.match(self.text, self.at)) is not None:
                    self.at = name.end()
            elif word := next((word for word in CLOSERS if self.at_word(word)), None):
                self.at += len(word)
                self.space()
            else:
                return

    def _simple(self) -> list[Node]:
        """Assignments, words and redirections up to an operator."""
        found = Simple()
        while True:
            self.space()
            if (redirect := REDIRECT.match(self.text, self.at)) is not None:
                self.at = redirect.end()
                found.redirects.append(self._redirect(redirect[1] or redirect[2]))
            elif self._command_ends():
                return [found] if found.words or found.assigned or found.redirects else []
            elif not found.words and (assignment := ASSIGNMENT.match(self.text, self.at)) is not None:
                self.at = assignment.end()
                found.subscripts += [self.quoted_text(assignment[2])] if assignment[2] else []
                found.assigned.append((assignment[1], self._assigned()))
            else:
                found.words.append(self.word())
                if len(found.words) == 1 and (parameters := PARAMETERS.match(self.text, self.at)) is not None:
                    self.at = parameters.end()  # NAME (): what follows is its body
                    self.space(lines=True)
                    return self._command()

    def _command_ends(self) -> bool:
        return self.at >= len(self.text) or (self.text[self.at] in META and not self.peek_process())

    def _assigned(self) -> list[Word]:
        if not self.peek("("):
            return [self.word()]
        self.at += 1
        return self.words_until(")")

    def _test(self) -> Node:
        """``[[ … ]]``: operators of its own, so only its words are of interest."""
        self.at += 2
        words: list[Word] = []
        while True:
            self.space(lines=True)
            if self.at >= len(self.text):
                return Block([], words)
            if self.at_word("]]"):
                self.at += 2
                return Block([], words)
            begun = self.at
            words.append(self.word())
            if self.at == begun:
                self.at += 1

    def _loop(self) -> list[Node]:
        """``for NAME in WORDS``; its body follows as commands of the same program."""
        self.space()
        name = NAME.match(self.text, self.at)
        if name is None:
            return []  # for ((…)): read as what it looks like
        self.at = name.end()
        self.space(lines=True)
        if not self.at_word("in"):
            return [Loop(name[0], [])]
        self.at += 2
        words: list[Word] = []
        while True:
            self.space()
            if self._command_ends():
                return [Loop(name[0], words)]
            words.append(self.word())

    def _case(self) -> list[Node]:
        self.space(lines=True)
        words, program = [self.word()], list[Node]()
        self.space(lines=True)
        if self.at_word("in"):
            self.at += 2
        while True:
            self.space(lines=True)
            if self.at >= len(self.text):
                return [Block(program, words)]
            if self.at_word("esac"):
                self.at += 4
                return [Block(program, words), *self._simple()]
            self._pattern(words)
            program += self.program("case")

    def _pattern(self, words: list[Word]) -> None:
        """One branch's patterns, up to their parenthesis."""
        if self.peek("("):
            self.at += 1
        while self.at < len(self.text) and not self.peek(")"):
            begun = self.at
            self.space(lines=True)
            words.append(self.word())
            if self.at == begun:
                self.at += 1
        self.at += 1

    def _function(self) -> list[Node]:
        """``function NAME``; its body follows as a command of the same program."""
        self.space()
        self.word()
        if parameters := PARAMETERS.match(self.text, self.at):
            self.at = parameters.end()
        return []

    # --- redirections ---------------------------------------------------------------------------------

    def _redirect(self, op: str) -> Redirect:
        self.space()
        begun = self.at
        target = self.word()
        redirect = Redirect(op, target)
        if op == "<<<":
            redirect.body = target
        elif op in ("<<", "<<-"):
            raw = self.text[begun : self.at]
            delimiter = "".join(part.text for part in target if isinstance(part, Text)) if target else raw
            self._bodies.append((redirect, delimiter, op == "<<-", any(quote in raw for quote in "\\'\"")))
        return redirect

    def line_begins(self) -> None:
        """Read the bodies that begin at this line."""
        bodies, self._bodies = self._bodies, []
        for redirect, delimiter, stripped, quoted in bodies:
            lines: list[str] = []
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                line, self.at = (self.text[self.at :], len(self.text)) if end < 0 else (self.text[self.at : end], end + 1)
                if (line.lstrip("\t") if stripped else line) == delimiter:
                    break
                lines.append(line)
            body = "\n".join(lines)
            redirect.body = (Text(body, True),) if quoted else self.quoted_text(body)
