"""Reads the words of a bash command the way bash does: quotes, escapes, expansions, substitutions."""

from __future__ import annotations

import re
from typing import Final

from power_loop.tools.shell.words import Block, Node, Part, Substitution, Text, Variable, Word

META = frozenset(" \t\n|&;()<>")
NAME = re.compile(r"[A-Za-z_]\w*")
SPECIAL = frozenset("@*#?$!-0123456789")
ESCAPES: Final = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
CODE = re.compile(r"x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})")
# Runs of characters that mean themselves.
PLAIN = re.compile(r"[\w./,:%-]+")
PLAIN_QUOTED = re.compile(r"[^$`\"'\\}]+")
BRACED = re.compile(r"([#!]?)([A-Za-z_]\w*|\d+|[@*#?$!-])(\[[^\]]*\])?")
OPERATOR = re.compile(r":?[-=+?]|")


class WordReader:
    """A position in a text; each method reads on from there. Programs inside of words are read by whoever inherits."""

    depth: int
    text: str

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text, self.depth = text, depth
        self.at: int = 0

    def program(self, closer: str) -> list[Node]:
        """The commands up to ``closer``, which is consumed."""
        raise AssertionError("inherited by the reader of programs")

    def inside(self, text: str) -> WordReader:
        """A reader of the same kind, as deep as this one."""
        return type(self)(text, self.depth)

    def word(self) -> Word:
        """The word that begins here; empty where none does."""
        parts: list[Part] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in "<>" and self.peek_process():
                self.at += 2
                parts.append(Substitution(self.program(")"), True, text=False))
            elif char in "@!+*?" and self.text[self.at + 1 : self.at + 2] == "(":
                self.at += 2
                parts.append(Text("*", False))
                self.words_until(")")
            elif char == "(" and parts and parts[-1] == Text("=", False):
                self.at += 1  # declare name=(…)
                parts += [part for word in self.words_until(")") for part in word if isinstance(part, Substitution)]
            elif char in META:
                break
            elif char == '"':
                self.at += 1
                parts += self._double_quoted() or [Text("", True)]
            elif char == "'":
                parts.append(Text(self._until("'"), True))
            else:
                parts.append(self.piece(quoted=False))
        return tuple(parts)

    def piece(self, *, quoted: bool) -> Part:
        """One character, or the expansion that begins with it."""
        char = self.text[self.at]
        if (run := (PLAIN_QUOTED if quoted else PLAIN).match(self.text, self.at)) is not None:
            self.at = run.end()
            return Text(run[0], quoted)
        if char == "\\":
            return self._escaped(quoted)
        if char == "`":
            return self._backticks(quoted)
        if char == "$":
            return self._dollar(quoted)
        self.at += 1
        return Text(char, quoted)

    def _escaped(self, quoted: bool) -> Part:
        following = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if following == "\n":
            return Text("", quoted)
        return Text("\\" + following if quoted and following not in '$`"\\' else following, True)

    def _double_quoted(self) -> list[Part]:
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] != '"':
            parts.append(self.piece(quoted=True))
        self.at += 1
        return parts

    def quoted_text(self, text: str) -> Word:
        """``text`` as if it stood between double quotes, in which double quotes are nothing special."""
        inner = self.inside(text)
        parts: list[Part] = []
        while inner.at < len(inner.text):
            parts.append(inner.piece(quoted=True))
        return tuple(parts)

    def _backticks(self, quoted: bool) -> Part:
        self.at += 1
        inner: list[str] = []
        while self.at < len(self.text) and self.text[self.at] != "`":
            if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2] in ("`", "\\", "$", '"' if quoted else "`"):
                self.at += 1
            inner.append(self.text[self.at : self.at + 1])
            self.at += 1
        self.at += 1
        return Substitution(self.inside("".join(inner)).program(""), quoted, text=True)

    def _dollar(self, quoted: bool) -> Part:
        self._join_line(self.at + 1)
        text, at = self.text, self.at
        if text.startswith("$((", at) and (end := self.arithmetic_end(at + 3)) is not None:
            self.at = end + 2
            return Substitution([Block([], [self.quoted_text(text[at + 3 : end])])], True, text=False)
        if text.startswith("$(", at):
            self.at += 2
            return Substitution(self.program(")"), quoted, text=True)
        if text.startswith("${", at):
            self.at += 2
            return self._braced(quoted)
        if not quoted and text.startswith("$'", at):
            self.at += 1
            return Text(self._ansi_c(), True)
        if not quoted and text.startswith('$"', at):
            self.at += 1
            return Text("", True)  # a translated string: the quotes are read next
        self.at += 1
        if (name := self._continued(NAME)) is not None:
            self.at = name.end()
            return Variable(name[0], quoted, bare=not quoted)
        if text[self.at : self.at + 1] and text[self.at] in SPECIAL:
            self.at += 1
            return Variable(text[self.at - 1], quoted, sure=text[self.at - 1] in "#?$!-")
        return Text("$", True)

    def _continued(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """``pattern`` from here on, over the ends of continued lines: a name may go on behind one."""
        self._join_line(self.at)
        while (found := pattern.match(self.text, self.at)) is not None and self._join_line(found.end()):
            continue
        return found

    def _join_line(self, at: int) -> bool:
        joined = self.text.startswith("\\\n", at)
        if joined:
            self.text = self.text[:at] + self.text[at + 2 :]
        return joined

    def _braced(self, quoted: bool) -> Part:
        """``${…}`` from behind the brace."""
        lead = self._continued(BRACED)
        if lead is None:
            return Variable("", quoted, beside=self._in_braces(quoted))
        self.at = lead.end()
        if lead[1] or lead[3]:
            return Variable("", quoted, sure=lead[1] == "#", beside=(*self.quoted_text(lead[3] or ""), *self._in_braces(quoted)))
        operator = OPERATOR.match(self.text, self.at)
        assert operator is not None, "the pattern matches nothing, too"
        self.at = operator.end()
        rest = self._in_braces(quoted)
        if operator[0]:
            fails = "?" in operator[0]
            return Variable(lead[2], quoted, None if fails else rest, sure=fails, beside=rest if fails else ())
        # ${HOME%/} is still the home; anything else that is cut is not known.
        slash = "".join(part.text for part in rest if isinstance(part, Text)) == "%/"
        return Variable(lead[2], quoted, changed=bool(rest) and not slash, beside=rest)

    def _in_braces(self, quoted: bool) -> Word:
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] != "}":
            if self.text[self.at] == '"':
                self.at += 1
                parts += self._double_quoted()
            elif self.text[self.at] == "'" and not quoted:
                parts.append(Text(self._until("'"), True))
            else:
                parts.append(self.piece(quoted=quoted))
        self.at += 1
        return tuple(parts)

    def _ansi_c(self) -> str:
        """``$'…'`` from its quote on, decoded."""
        self.at += 1
        chars: list[str] = []
        while self.at < len(self.text) and self.text[self.at] != "'":
            if self.text[self.at] != "\\":
                chars.append(self.text[self.at])
                self.at += 1
            elif (code := CODE.match(self.text, self.at + 1)) is not None:
                number = int(code[4], 8) & 0xFF if code[4] else int(code[1] or code[2] or code[3], 16)
                chars.append(chr(number) if number < 0x110000 else "")
                self.at = code.end()
            else:
                following = self.text[self.at + 1 : self.at + 2]
                chars.append(ESCAPES.get(following, following))
                self.at += 2
        self.at += 1
        return "".join(chars)

    def _until(self, quote: str) -> str:
        end = self.text.find(quote, self.at + 1)
        end = len(self.text) if end < 0 else end
        inner, self.at = self.text[self.at + 1 : end], end + 1
        return inner

    def words_until(self, closer: str) -> list[Word]:
        words: list[Word] = []
        while True:
            self.space(lines=True)
            if self.at >= len(self.text) or self.peek(closer):
                self.at += len(closer)
                return words
            begun = self.at
            words.append(self.word())
            if self.at == begun:
                self.at += 1

    # --- looking ahead --------------------------------------------------------------------------------

    def space(self, *, lines: bool = False) -> None:
        """Pass over blanks, comments and continued lines; with ``lines`` over the ends of lines too."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r" or self.peek("\\\n"):
                self.at += 2 if char == "\\" else 1
            elif char == "#" and (self.at == 0 or self.text[self.at - 1] in META):
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char == "\n" and lines:
                self.at += 1
                self.line_begins()
            else:
                return

    def line_begins(self) -> None:
        """The end of a line was passed over."""

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def peek_process(self) -> bool:
        return self.peek("<(") or self.peek(">(")

    def at_word(self, word: str) -> bool:
        """This very word stands here, unquoted and alone."""
        end = self.at + len(word)
        return self.peek(word) and (end >= len(self.text) or self.text[end] in META)

    def arithmetic_end(self, begin: int) -> int | None:
        """Where the ``))`` of an expression stands; None when it is a subshell in a subshell."""
        open_ = 0
        for at in range(begin, len(self.text)):
            if self.text[at] == "(":
                open_ += 1
            elif self.text[at] == ")":
                if open_ == 0:
                    return at if self.text.startswith("))", at) else None
                open_ -= 1
        return None
