"""A schema becomes a `Validator`: every keyword of the list is checked as draft 2020-12 says, anything else that asserts is refused.

Works through the document once, by JSON Pointer; a reference is a look-up by pointer, so recursive schemas are
plain. What lies beyond the list may be handed to another validator (``beyond``); which one is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from power_loop.contracts.schema.applicators import APPLICATORS
from power_loop.contracts.schema.assertions import ASSERTIONS
from power_loop.contracts.schema.checks import Builder, Check, Violation, below, listed, named, nothing_allowed, nothing_wrong

Beyond = Callable[[Any, Sequence[str]], Check]
"""``(schema, what of it is beyond the list) → check``; raises `ValueError` where it cannot take it either."""

REFUSED = frozenset({"unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"})


class Validator:
    """A compiled schema."""

    __slots__ = ("_check",)

    def __init__(self, check: Check) -> None:
        self._check = check

    def problems(self, value: Any) -> list[Violation]:
        """Every violation, in the order of the schema; empty when ``value`` keeps it."""
        try:
            return list(self._check(value, ""))
        except RecursionError:
            return [Violation("", "depth", "is nested too deeply to be checked")]

    def violations(self, value: Any) -> list[str]:
        """The same as lines of text: ``/items/0/price: 3 is less than the minimum 5``."""
        return [str(problem) for problem in self.problems(value)]

    def is_valid(self, value: Any) -> bool:
        """The verdict alone; stops at the first violation."""
        try:
            return next(self._check(value, ""), None) is None
        except RecursionError:
            return False


def compile_schema(schema: Any, *, beyond: Beyond | None = None) -> Validator:
    """The validator of ``schema``, a JSON Schema as an object or a bool.

    Raises `ValueError` for a malformed schema, with the place, and for an assertion that is not understood here
    (``unevaluatedProperties``, a remote ``$ref``, …), with its name; unless ``beyond`` takes it.
    """
    document = _Document(schema)
    try:
        check = document.compile_all()
    except RecursionError as error:
        raise ValueError("the schema is nested too deeply, or contains itself") from error
    if document.beyond:
        if beyond is None:
            raise ValueError(f"the schema asserts what this validator does not know: {'; '.join(document.beyond)}")
        check = beyond(schema, document.beyond)
    return Validator(check)


class _Document:
    """A schema and the checks of all its places, by pointer."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.checks: dict[str, Check] = {}
        self.beyond: list[str] = []
        self._same_value: dict[str, list[str]] = {}
        self._referred: list[str] = []

    def compile_all(self) -> Check:
        self.compile("", self.root)
        while self._referred:
            pointer = self._referred.pop()
            self.compile(pointer, self.find(pointer))
        self._refuse_loops()
        return self.checks[""]

    def compile(self, pointer: str, schema: Any) -> Check:
        if pointer not in self.checks:
            self.checks[pointer] = self._build(pointer, schema)
        return self.checks[pointer]

    def _build(self, pointer: str, schema: Any) -> Check:
        if isinstance(schema, bool):
            return nothing_wrong if schema else nothing_allowed
        keywords = named(schema)
        if keywords is None:
            raise ValueError(f"the schema is malformed at {pointer or '(root)'}: must be an object, true or false; it is {schema!r}")
        place = _Place(self, pointer, keywords)
        built = [self._keyword(place, keyword, value) for keyword, value in keywords.items()]
        return together([check for check in built if check is not None])

    def _keyword(self, place: _Place, keyword: str, value: Any) -> Check | None:
        if builder := BUILDERS.get(keyword):
            return builder(place, value)
        if keyword == "$ref":
            return self._reference(place, value)
        if keyword in REFUSED or (keyword == "$id" and place.pointer):
            self.beyond.append(f"{keyword!r} at {place.pointer or '(root)'}")
        return None

    def _reference(self, place: _Place, reference: Any) -> Check | None:
        if not isinstance(reference, str):
            raise place.malformed("$ref", f"must be a string; it is {reference!r}")
        base = (named(self.root) or {}).get("$id")
        local = reference.removeprefix(base.removesuffix("#")) if isinstance(base, str) and base else reference
        if local not in ("", "#") and not local.startswith("#/"):
            self.beyond.append(f"'$ref' to {reference!r} at {place.pointer or '(root)'}")
            return None
        pointer = unquote(local[1:])
        self._referred.append(pointer)
        self.looks_at_the_same_value(place.pointer, pointer)
        try:
            self.find(pointer)
        except LookupError as error:
            raise place.malformed("$ref", f"points to nothing: {reference!r}") from error
        checks = self.checks
        return lambda value, path: checks[pointer](value, path)

    def find(self, pointer: str) -> Any:
        """The part of the document at ``pointer``. Raises `LookupError` when there is none."""
        part = self.root
        for token in pointer.split("/")[1:]:
            part = part_of(part, token.replace("~1", "/").replace("~0", "~"))
        return part

    def looks_at_the_same_value(self, pointer: str, other: str) -> None:
        self._same_value.setdefault(pointer, []).append(other)

    def _refuse_loops(self) -> None:
        """A schema that comes back to itself without going deeper into the value would be checked for ever."""
        done: set[str] = set()
        for start in self._same_value:
            trail: list[tuple[str, Iterator[str]]] = [(start, iter(self._same_value[start]))]
            while trail and start not in done:
                pointer, others = trail[-1]
                other = next(others, None)
                if other is None:
                    done.add(pointer)
                    trail.pop()
                elif any(other == each for each, _ in trail):
                    raise ValueError(f"the schema is malformed at {pointer or '(root)'}: it refers to itself without going deeper")
                elif other not in done:
                    trail.append((other, iter(self._same_value.get(other, ()))))


class _Place:
    """One schema of the document."""

    __slots__ = ("_document", "pointer", "schema")

    def __init__(self, document: _Document, pointer: str, schema: Mapping[str, Any]) -> None:
        self._document = document
        self.pointer = pointer
        self.schema = schema

    def here(self, *tokens: str) -> Check:
        pointer = self._pointer(tokens)
        self._document.looks_at_the_same_value(self.pointer, pointer)
        return self._document.compile(pointer, self._part(tokens))

    def deeper(self, *tokens: str) -> Check:
        return self._document.compile(self._pointer(tokens), self._part(tokens))

    def malformed(self, keyword: str, problem: str) -> ValueError:
        return ValueError(f"the schema is malformed at {self.pointer}/{keyword}: {problem}")

    def _pointer(self, tokens: Sequence[str]) -> str:
        pointer = self.pointer
        for token in tokens:
            pointer = below(pointer, token)
        return pointer

    def _part(self, tokens: Sequence[str]) -> Any:
        part: Any = self.schema
        for token in tokens:
            part = part_of(part, token)
        return part


def part_of(whole: Any, token: str) -> Any:
    """The member or item of ``whole`` that ``token`` of a pointer names. Raises `LookupError` when there is none."""
    members = named(whole)
    if members is not None:
        return members[token]
    items = listed(whole)
    if items is not None and token.isdecimal():
        return items[int(token)]
    raise LookupError(token)


def together(checks: list[Check]) -> Check:
    """One check for all of ``checks``."""
    if len(checks) < 2:
        return checks[0] if checks else nothing_wrong

    def check(value: Any, path: str) -> Iterator[Violation]:
        for each in checks:
            yield from each(value, path)

    return check


BUILDERS: dict[str, Builder] = {**ASSERTIONS, **APPLICATORS}
