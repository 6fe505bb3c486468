"""What a step came to, as later steps see it, and the names under which they see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from power_loop.workflow.nodes import UNSET, HumanNode
from power_loop.workflow.references import Part, Ref, as_text, fill, reach


class Outcome(NamedTuple):
    """How a step ended, with what."""

    status: Literal["completed", "failed", "skipped"]
    text: str = ""
    payload: Any = None
    error: str = ""
    halts: bool = False
    """It failed, and what holds it may not simply go on."""

    @property
    def value(self) -> Any:
        return self.text if self.payload is None else self.payload

    @property
    def missing(self) -> str:
        """Why there is no result; '' when there is one."""
        if self.status == "completed":
            return ""
        return f"failed: {self.error}" if self.error else self.status


SKIPPED = Outcome("skipped")


def failure(error: str, *, halts: bool = True) -> Outcome:
    return Outcome("failed", error=error, halts=halts)


def of_value(value: Any) -> Outcome:
    """A value that no step had to find."""
    return Outcome("completed", as_text(value), None if isinstance(value, str) else value)


def of_answer(node: HumanNode, value: Any) -> Outcome:
    """What a person said, with the text as it was said; where they were to confirm, yes and no are true and false."""
    said = of_value(value)
    return said._replace(payload=value == "yes") if node.kind == "confirm" and value in ("yes", "no") else said


class Scope:
    """The names that steps see: each run of a body has a scope of its own, inside of the one around it."""

    __slots__ = ("outcomes", "parent", "prefix", "shown")

    def __init__(self, parent: Scope | None, prefix: str, shown: str) -> None:
        self.parent: Scope | None = parent
        self.prefix: str = prefix
        """What the keys of its steps begin with."""
        self.shown: str = shown
        """What their names in the result begin with."""
        self.outcomes: dict[str, Outcome] = {}

    def find(self, name: str) -> Outcome | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.outcomes:
                return scope.outcomes[name]
            scope = scope.parent
        return None

    def look(self, ref: Ref) -> Any:
        """The value that is referred to; UNSET when there is none."""
        outcome = self.find(ref.name)
        if outcome is None or outcome.status != "completed":
            return UNSET
        try:
            return reach(outcome.value, ref.path, ref.name)
        except LookupError:
            return UNSET

    def text_of(self, ref: Ref) -> str:
        """What a template shows for a reference. Raises `LookupError` when the result has no such part."""
        outcome = self.find(ref.name)
        if outcome is None or outcome.status != "completed":
            return named_missing(ref.name, outcome)
        if not ref.path:
            return outcome.text
        try:
            return as_text(reach(outcome.value, ref.path, ref.name))
        except LookupError as error:
            raise LookupError(f"{ref.written} cannot be filled in: {error.args[0]}") from error

    def filled(self, template: Sequence[Part]) -> str:
        """The template's text; raises as `text_of`."""
        return fill(template, self.text_of)

    def context(self, names: Sequence[str]) -> str:
        """The results of ``names`` for whoever works on; one that is missing is named as missing."""
        parts: list[str] = []
        for name in names:
            outcome = self.find(name)
            there = outcome is not None and outcome.status == "completed"
            parts.append(f"## {name}\n{outcome.text if outcome is not None and there else named_missing(name, outcome)}")
        return "\n\n".join(["Context from earlier steps:", *parts])


def named_missing(name: str, outcome: Outcome | None) -> str:
    """What stands in the place of a result that is not there."""
    return f"[{name}: no result]" if outcome is None else f"[{name}: {outcome.missing}]"
