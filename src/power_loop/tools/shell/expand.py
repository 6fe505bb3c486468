"""What the words of a command amount to, as far as that can be known before it runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from power_loop.tools.shell.parse import TooDeep
from power_loop.tools.shell.words import Part, Simple, Substitution, Text, Variable, Word

# Stand in a field for what is only known at run time: it may be empty, or it may not.
UNKNOWN: Final = "\0"
SURE: Final = "\1"
# Where an unquoted expansion is split.
SPLIT: Final = "\2"
GLOB: Final = frozenset("*?[")
# Of a word with several values so many are looked at; a word that braces make more of is refused.
MAX_VALUES: Final = 256

Atom = Part
"""A character, a quoted text, or an expansion."""
OPEN: Final = Text("{", False)
NAME_CHAR: Final = re.compile(r"\w")
COMMA: Final = Text(",", False)
CLOSE: Final = Text("}", False)


class Field(NamedTuple):
    """One word as a program gets it."""

    text: str
    glob: bool = False
    """It holds an unquoted pattern, so the file system decides what it becomes."""

    @property
    def base(self) -> str:
        """The last part of it as a path."""
        return self.text.rpartition("/")[2]

    @property
    def known(self) -> bool:
        return UNKNOWN not in self.text and SURE not in self.text


class Scope:
    """Variables and the directory, as far as the command itself sets them."""

    cwd: str | None
    home: str
    user_home: str

    def __init__(self, user_home: str, home: str, cwd: str | None) -> None:
        self.user_home, self.home, self.cwd = user_home, home, cwd
        self.variables: dict[str, list[str]] = {}

    def inner(self) -> Scope:
        """For a subshell: it sees these, and keeps its own."""
        scope = Scope(self.user_home, self.home, self.cwd)
        scope.variables = dict(self.variables)
        return scope

    def values(self, name: str) -> list[str]:
        """What the variable may be; more than one where a loop or a condition decides."""
        if name in self.variables:
            return self.variables[name]
        known = {"HOME": self.user_home, "IFS": " ", "POWER_LOOP_HOME": self.home, "PWD": self.cwd or SURE}
        return [known.get(name, UNKNOWN)]

    def assign(self, name: str, words: Sequence[Word]) -> None:
        """Every value that the command gives it is kept: which one counts is decided at run time."""
        values = [field.text for word in words for field in fields(word, self, split=False)]
        before = self.variables.get(name, [])
        self.variables[name] = list(dict.fromkeys([*before, *values]))[-MAX_VALUES:]


def fields(word: Word, scope: Scope, *, split: bool = True) -> list[Field]:
    """The fields that a word becomes: braces, tilde, variables, literal substitutions, splitting. All of its possible values."""
    found: list[Field] = []
    for atoms in braced(list(atoms_of(word)), 0):
        alternatives = [_alternatives(atom, scope, split=split) for atom in _home_first(atoms, scope)]
        for chosen in itertools.islice(itertools.product(*alternatives), MAX_VALUES):
            text = "".join(text for text, _ in chosen)
            glob = any(each for _, each in chosen)
            pieces = [piece for piece in text.split(SPLIT) if piece] if SPLIT in text else [text]
            found += [Field(piece, glob) for piece in pieces]
    return list(dict.fromkeys(found)) if len(found) > 1 else found


def atoms_of(word: Word) -> Iterator[Atom]:
    """The parts of a word; unquoted text one by one where single characters matter: braces, a tilde."""
    plain = [part.text for part in word if isinstance(part, Text) and not part.quoted]
    apart = any("{" in text for text in plain) or (word and isinstance(word[0], Text) and word[0].text.startswith("~"))
    for part in word:
        if apart and isinstance(part, Text) and not part.quoted:
            yield from (Text(char, False) for char in part.text)
        else:
            yield part


def braced(atoms: list[Atom], depth: int) -> list[list[Atom]]:
    """``a{b,c}d`` is two words. A sequence (``{1..3}``) stands for a pattern. Raises `TooDeep` for more words than are looked at."""
    if depth > 8 or OPEN not in atoms:
        return [atoms]
    begin = atoms.index(OPEN)
    commas, level = [begin], 0
    for at in range(begin, len(atoms)):
        if atoms[at] == OPEN:
            level += 1
        elif atoms[at] == COMMA and level == 1:
            commas.append(at)
        elif atoms[at] == CLOSE:
            level -= 1
            if level == 0:
                return _alternated(atoms, [*commas, at], depth)
    return [[*atoms[: begin + 1], *rest] for rest in braced(atoms[begin + 1 :], depth + 1)]


def _alternated(atoms: list[Atom], cuts: list[int], depth: int) -> list[list[Atom]]:
    before, after = atoms[: cuts[0]], braced(atoms[cuts[-1] + 1 :], depth + 1)
    if len(cuts) > 2:
        pieces = [piece for left, right in itertools.pairwise(cuts) for piece in braced(atoms[left + 1 : right], depth + 1)]
    elif _is_sequence(atoms[cuts[0] + 1 : cuts[1]]):
        pieces = [[Text("*", False)]]
    else:
        pieces = [atoms[cuts[0] : cuts[1] + 1]]
    if len(pieces) * len(after) > MAX_VALUES:
        raise TooDeep
    return [_longer_name([*before, *piece, *rest], len(before) - 1) for piece in pieces for rest in after]


def _longer_name(atoms: list[Atom], at: int) -> list[Atom]:
    """Braces come before variables: ``$HO{ME,}`` is ``$HOME``."""
    variable = atoms[at] if at >= 0 else None
    if not isinstance(variable, Variable) or not variable.bare:
        return atoms
    end = at + 1
    while end < len(atoms) and isinstance(letter := atoms[end], Text) and not letter.quoted and NAME_CHAR.fullmatch(letter.text):
        end += 1
    name = variable.name + "".join(atom.text for atom in atoms[at + 1 : end] if isinstance(atom, Text))
    return [*atoms[:at], variable._replace(name=name), *atoms[end:]]


def _is_sequence(atoms: Sequence[Atom]) -> bool:
    return ".." in "".join(atom.text for atom in atoms if isinstance(atom, Text))


def _home_first(atoms: list[Atom], scope: Scope) -> list[Atom]:
    """An unquoted tilde at the beginning as the folder it means."""
    if not atoms or atoms[0] != Text("~", False):
        return atoms
    end = next((at for at, atom in enumerate(atoms) if atom == Text("/", False)), len(atoms))
    user = "".join(atom.text if isinstance(atom, Text) else UNKNOWN for atom in atoms[1:end])
    home = scope.user_home if not user else "/root" if user == "root" else (scope.cwd or SURE) if user == "+" else f"/home/{user}"
    return [Text(home, True), *atoms[end:]]


def _alternatives(atom: Atom, scope: Scope, *, split: bool) -> list[tuple[str, bool]]:
    """What one atom may be: (text, it is a pattern)."""
    if isinstance(atom, Variable):
        texts = _of_variable(atom, scope)
    elif isinstance(atom, Substitution):
        texts = printed_by(atom, scope)
    else:
        text, quoted = atom
        return [(text, not quoted and not GLOB.isdisjoint(text))]
    if atom.quoted or not split:
        return [(text, False) for text in texts]
    return [(SPLIT.join(text.split()) if text.strip() else SPLIT if text else "", bool(GLOB & set(text))) for text in texts]


def _of_variable(variable: Variable, scope: Scope) -> list[str]:
    values = scope.values(variable.name) if variable.name else [UNKNOWN]
    if variable.changed:
        values = [UNKNOWN]
    if variable.sure:
        values = [value.replace(UNKNOWN, SURE) or SURE for value in values]
    if variable.instead is not None:
        values = [*values, *(field.text for field in fields(variable.instead, scope, split=False))]
    return list(dict.fromkeys(values))[:MAX_VALUES]


def printed_by(substitution: Substitution, scope: Scope) -> list[str]:
    """What ``$(echo …)`` and ``$(printf …)`` print; anything else is only known at run time."""
    if not substitution.text:
        return [SURE]
    match substitution.program:
        case [Simple(words=[command, *words], redirects=[])]:
            said = literal_output([field for word in (command, *words) for field in fields(word, scope)])
            return [UNKNOWN if said is None else said]
        case _:
            return [UNKNOWN]


def literal_output(argv: Sequence[Field]) -> str | None:
    """What ``echo`` or ``printf`` with these words prints, roughly; None for any other command."""
    if not argv or argv[0].base not in ("echo", "printf"):
        return None
    words = [field.text for field in argv[1:]]
    while words and words[0].startswith("-") and argv[0].base == "echo" and set(words[0][1:]) <= set("neE"):
        words = words[1:]
    if argv[0].base == "printf" and words:
        template, *given = words
        if template == "-v":
            return ""
        plain = template.replace("\\n", "\n").replace("\\t", " ")
        return plain.replace("%s", " ".join(given), 1).replace("%s", "").strip() if "%" in plain else plain.strip()
    return " ".join(words)
