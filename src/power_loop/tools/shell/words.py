"""What a shell command is made of, as far as a check must know: words and their parts, simple commands, and what holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Text(NamedTuple):
    """Literal text. Quoted text is no pattern, no tilde and no brace."""

    text: str
    quoted: bool


class Variable(NamedTuple):
    """``$NAME`` or ``${NAME…}``."""

    name: str
    quoted: bool
    instead: Word | None = None
    """What ``${NAME:-word}`` and its like may give in its place."""
    changed: bool = False
    """Something is cut off or replaced, so its value is not known even where the variable's is."""
    sure: bool = False
    """It is never empty: ``${NAME:?}``, ``$$``, ``${#NAME}``."""
    bare: bool = False
    """Without braces: letters that braces put behind it belong to its name."""
    beside: Word = ()
    """What else is put together in its braces: a subscript, an offset, a pattern."""


class Substitution(NamedTuple):
    """``$(…)``, backticks, ``<(…)``, or arithmetic: what runs in there."""

    program: list[Node]
    quoted: bool
    text: bool
    """Its output is the text in its place; else it stands for a path or a number."""


Part = Text | Variable | Substitution
Word = tuple[Part, ...]


@dataclass
class Redirect:
    """``op`` target. ``body``: the here-document, or the word of a here-string; it is known once its line has ended."""

    op: str
    target: Word
    body: Word | None = None


@dataclass
class Simple:
    """Assignments, words, redirections."""

    assigned: list[tuple[str, list[Word]]] = field(default_factory=list["tuple[str, list[Word]]"])
    words: list[Word] = field(default_factory=list[Word])
    redirects: list[Redirect] = field(default_factory=list[Redirect])
    subscripts: list[Word] = field(default_factory=list[Word])
    """Of what is assigned."""


@dataclass
class Pipeline:
    """Commands, each of which reads what the one before it printed."""

    commands: list[Node]


@dataclass
class Subshell:
    """A program whose variables and directory are its own."""

    program: list[Node]


@dataclass
class Loop:
    """``for name in words``: what follows may see any of them."""

    name: str
    words: list[Word]


@dataclass
class Block:
    """What runs in the same shell, and words beside it that are only looked into: a case, a test."""

    program: list[Node]
    words: list[Word] = field(default_factory=list[Word])


Node = Simple | Pipeline | Subshell | Loop | Block
