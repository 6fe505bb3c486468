"""Structured output: what is asked of a model as its answer, and how the document is found in what it wrote.

Models wrap documents in fences and prose and leave commas behind; reading is tolerant of that and of nothing else. How a
Python type becomes a schema, and a document an instance of it, is the business of `tools.structured`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from power_loop.contracts.errors import StructuredOutputError

# What OpenAI takes as the name of a schema (platform.openai.com/docs/guides/structured-outputs).
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Under which name the value of a schema stands in the object that is sent instead.
WRAPPED = "value"

# Braces in prose that close nowhere; for each, the rest of the text is looked through.
MAX_LOOSE_BRACES = 32

# One that is cut off ends with the text: to look for its end from each quote in it again takes quadratic time.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_BRACKETS = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_LEFT_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_FENCED = re.compile(r"```[ \w-]*\n(.*)```", re.DOTALL)
# A brace that begins a document, unlike one in prose.
_OBJECT_BEGINS = re.compile(r'\{\s*["}]')


@dataclass(frozen=True, slots=True)
class StructuredOutputSpec:
    """A schema with the name that it goes by. Raises `ValueError` for a name that providers refuse, `TypeError` for no schema."""

    name: str
    schema: Mapping[str, Any]
    strict: bool = True
    """Where the provider can, it lets the model write nothing else."""
    description: str | None = None
    examples: Sequence[Any] = field(default_factory=list[Any])
    """Documents of this schema; the model reads them behind the description."""

    def __post_init__(self) -> None:
        if not isinstance(cast("Any", self.name), str) or NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} cannot be the name of a schema: 1 to 64 of the characters A-Z, a-z, 0-9, _ and -")
        if not isinstance(cast("Any", self.schema), Mapping):
            raise TypeError(f"schema= takes a JSON Schema as a dict, not {type(self.schema).__name__}")

    def to_openai_response_format(self) -> dict[str, Any]:
        """The ``response_format`` of a request; the other protocols are made from it."""
        inner: dict[str, Any] = {"name": self.name, "schema": dict(self.schema), "strict": self.strict}
        shown = [json.dumps(example, ensure_ascii=False, default=str) for example in self.examples]
        about = "\n".join([*([self.description] if self.description else []), *(f"Example: {text}" for text in shown)])
        return {"type": "json_schema", "json_schema": {**inner, **({"description": about} if about else {})}}

    def stored(self) -> dict[str, Any]:
        """What is kept with a send; ``StructuredOutputSpec(**stored)`` is this again."""
        kept: dict[str, Any] = {"name": self.name, "schema": dict(self.schema)}
        kept |= {} if self.strict else {"strict": False}
        kept |= {"description": self.description} if self.description else {}
        return kept | ({"examples": list(self.examples)} if self.examples else {})


class OutputForm(Protocol):
    """The form that the answer of a send must have, ready to read answers by."""

    @property
    def response_format(self) -> dict[str, Any] | None:
        """What requests carry; None where any text will do."""
        ...

    def stored(self) -> dict[str, Any]:
        """What a resume in another process reads answers by; the instances of types are lost with it."""
        ...

    def read(self, text: str) -> Any:
        """The value that ``text`` is. Raises `StructuredOutputError`."""
        ...

    def so_far(self, text: str) -> Any:
        """What an answer that is still being written amounts to, as plain JSON; None while that is nothing."""
        ...


def document_in(text: str) -> Any:
    """The JSON value that ``text`` is, else the first object in it.

    Code fences, prose around the object, commas before a closing bracket and raw line breaks in strings are tolerated.
    Raises `StructuredOutputError` (``no_json`` or ``invalid_json``).
    """
    problem: ValueError | None = None
    for candidate in candidates_in(text.strip()):
        try:
            return loads(candidate)
        except ValueError as error:
            problem = problem or (error if candidate.startswith(("{", "[")) else None)
    if problem is None:
        raise StructuredOutputError("no_json", text, "there is no JSON document in it")
    raise StructuredOutputError("invalid_json", text, str(problem))


def candidates_in(text: str) -> Iterator[str]:
    """What of ``text`` may be the document: all of it, what is fenced, an object."""
    yield text
    if (fenced := _FENCED.search(text)) is not None:
        yield fenced.group(1).strip()
    yield from objects_in(text)


def objects_in(text: str) -> Iterator[str]:
    """The spans of ``text`` in balanced braces, outermost, in order; the last may be cut off."""
    at, loose = text.find("{"), 0
    while at >= 0 and loose < MAX_LOOSE_BRACES:
        end = _end_of(text, at)
        if end is not None:
            yield text[at:end]
        elif _OBJECT_BEGINS.match(text, at):  # it was cut off; an object inside of it is not the document
            yield text[at:]
            return
        loose += end is None
        at = text.find("{", end if end is not None else at + 1)


def _end_of(text: str, start: int) -> int | None:
    depth = 0
    for found in _BRACKETS.finditer(text, start):
        bracket = found.group()
        if bracket in ("{", "["):
            depth += 1
        elif bracket in ("}", "]"):
            depth -= 1
            if not depth:
                return found.end()
    return None


def loads(text: str) -> Any:
    """The value of a JSON document, a comma too many tolerated. Raises `ValueError`."""
    try:
        return _loads(text)
    except ValueError as error:
        bare = _LEFT_COMMA.sub(lambda found: found.group(1) or "", text)
        if bare == text:
            raise
        try:
            return _loads(bare)
        except ValueError:
            raise error from None


def _loads(text: str) -> Any:
    try:
        # Models break lines inside of strings; there is one way to understand that.
        return json.loads(text, strict=False, parse_constant=_refuse_constant, parse_float=_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _number(digits: str) -> float:
    """What Python reads as infinite cannot be written as JSON again."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:60]} is too large for a number")
    return number
