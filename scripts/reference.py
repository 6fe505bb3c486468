"""docs/reference.md: every public name with its parameters and what its docstring says first."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import power_loop

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"
HEAD = """# Reference

Every name that can be imported from `power_loop`. *Stable* names keep their parameters within a major version; *provisional* ones may
change in a minor, with a note in the changelog. Parameters after `*` are keyword-only. Written by `make map` from the docstrings.
"""
# Of a default value, only what reads the same on every Python version and machine.
PLAIN = (str, int, float, bool, type(None), tuple)


def document() -> str:
    """The whole page."""
    stable = sorted(power_loop.STABLE_API, key=str.lower)
    others = sorted({*power_loop.__all__} - {*stable}, key=str.lower)
    parts = [HEAD, "## Stable\n", *map(entry, stable), "## Provisional\n", *map(entry, others)]
    return "\n".join(parts)


def entry(name: str) -> str:
    thing = getattr(power_loop, name)
    lines = [f"### `{name}`", "", f"```text\n{name}{signature(thing)}\n```", "", summary(thing), ""]
    if isinstance(thing, type) and not issubclass(thing, (enum.Enum, BaseException)):
        lines += [f"- `{member}` · {said}" for member, said in methods(thing)]
        lines += [""] if lines[-1] else []
    return "\n".join(line for line in lines)


def signature(thing: Any) -> str:
    """``(a, *, b=1)`` without annotations; ``= value`` for constants; the members of an enum."""
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        return ": " + ", ".join(str(member.value) for member in thing)
    if not isinstance(thing, type) and not inspect.isroutine(thing):
        return f" = {thing!r}" if isinstance(thing, PLAIN) else ""
    if isinstance(thing, type) and issubclass(thing, Exception) and not inspect.isfunction(thing.__init__):
        return "(message)"
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    plain = [each.replace(annotation=each.empty, default=default(each.default)) for each in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=found.empty))


class Word:
    """A default value by name."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def default(value: Any) -> Any:
    """``value`` if it reads the same everywhere, the name of a function or enum member, else an ellipsis."""
    if value is inspect.Parameter.empty or (isinstance(value, PLAIN) and not isinstance(value, enum.Enum) and "<" not in repr(value)):
        return value
    if isinstance(value, enum.Enum) or inspect.isroutine(value):
        return Word(str(value) if isinstance(value, enum.Enum) else value.__name__)
    return Word("…" if "<" in repr(value) else f"{type(value).__name__}()")


def summary(thing: Any) -> str:
    """The first paragraph of the docstring it has of its own, in one line; '' without one."""
    documented = thing.__dict__.get("__doc__") if isinstance(thing, type) else getattr(thing, "__doc__", None)
    if not documented or not callable(thing) or documented.startswith(f"{getattr(thing, '__name__', '')}("):  # a dataclass writes its own
        return ""
    return re.sub(r"\s+", " ", inspect.cleandoc(documented).split("\n\n")[0]).replace("``", "`")


# Bases that are no public names of their own: their methods stand with the class.
OTHER_HALVES = ("SessionVerbs",)


def methods(kind: type) -> Iterator[tuple[str, str]]:
    """(call, first line of the docstring) of the public methods that a class, or the other half of it, defines and documents."""
    fields = getattr(kind, "__dataclass_fields__", {})
    halves = [half for half in reversed(kind.__mro__) if half is kind or half.__name__ in OTHER_HALVES]
    for name, member in (item for half in halves for item in vars(half).items()):
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if not name.startswith("_") and name not in fields and inspect.isfunction(function) and (said := summary(function)):
            prefix = "await " if inspect.iscoroutinefunction(function) else ""
            yield f"{prefix}{name}{re.sub(r'^[(](self|cls)(, )?', '(', signature(function))}", said


def files() -> dict[Path, str]:
    return {PAGE: document()}
