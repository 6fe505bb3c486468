"""A tool ready to be called: a definition, its validator, and the settled way to its handler."""

from __future__ import annotations

import re
from asyncio import iscoroutine
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast, get_args

from power_loop.contracts.errors import ToolValidationError
from power_loop.contracts.tool import Effects, ToolDefinition, ToolRun
from power_loop.tools.calling import settle
from power_loop.tools.current import RUNNING
from power_loop.tools.instances import Convert, complaints
from power_loop.tools.signature import is_async
from power_loop.tools.validate import compile_schema

if TYPE_CHECKING:
    from power_loop.contracts.schema.compile import Validator

# What every provider takes as a function name.
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Field of a definition → (what holds of a sound value, how the error names it).
SETTINGS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    # A slip here must not make a call repeatable.
    "effects": (lambda value: value in (None, *get_args(Effects)), "'pure', 'idempotent' or 'once', or None for the default"),
    "parallel": (lambda value: value in (None, True, False), "True, False or None"),
    "timeout_s": (lambda value: value is None or (type(value) in (int, float) and value > 0), "seconds above 0, or None"),
    "retries": (lambda value: type(value) is int and value >= 0, "a whole number of at least 0"),
    "reconcile": (lambda value: value is None or callable(value), "a callable(run, args), or None"),
    "project": (lambda value: value is None or callable(value), "a callable(args, result), or None"),
}


class BoundTool:
    """The `Tool` port over a handler: any callable. ``converts`` come with the schema of a signature: argument → instance.

    Raises `ValueError` for a name that providers refuse, settings that make no sense, or a schema that is malformed or not understood;
    `TypeError` for a handler that cannot be called with what the schema lets the model send.
    """

    __slots__ = ("_calling", "_converts", "_schema", "_validator", "definition", "handler", "is_async")

    def __init__(self, definition: ToolDefinition, handler: Callable[..., Any], converts: Mapping[str, Convert] | None = None) -> None:
        check_name(definition.name)
        check_settings(definition)
        self._schema = parameters_of(definition)
        # A schema that we made of a signature is known to be sound; one from outside is read now, not when the model calls.
        self._validator: Validator | None = compile_schema(self._schema) if converts is None else None
        self._converts = dict(converts or {})
        properties = cast("Mapping[str, Any]", self._schema.get("properties", {}))
        self._calling = settle(definition.name, handler, frozenset(properties), frozenset(self._schema.get("required", ())))
        # A definition that says nothing runs alone, unless it changes nothing.
        side_by_side = definition.effects == "pure" if definition.parallel is None else definition.parallel
        self.definition: ToolDefinition = replace(definition, parallel=side_by_side)
        self.handler: Callable[..., Any] = handler
        self.is_async: bool = is_async(handler)

    def validator(self) -> Validator:
        """Compiled at the latest when first asked for; a function tool that is never called costs none."""
        if self._validator is None:
            self._validator = compile_schema(self._schema)
        return self._validator

    def violations(self, arguments: Mapping[str, Any]) -> str | None:
        """Every violation on a line of its own, with its path; None when the handler may be called."""
        found = self.validator().violations(arguments if isinstance(arguments, dict) else dict(arguments))
        said = {line.partition(": ")[0] for line in found}
        found += [line for line in self._calling.problems(arguments) if line.partition(": ")[0] not in said]
        return "\n".join(found) or None

    def call(self, run: ToolRun, arguments: Mapping[str, Any]) -> Any:
        """Call the handler, once, with valid ``arguments``; typed parameters get instances.

        Raises what the handler raises, and `ToolValidationError` when an argument refuses to become its instance.
        """
        if self._converts:
            arguments = {name: self._converted(name, value) for name, value in arguments.items()}
        token = RUNNING.set(run)
        try:
            value = self._calling.call(run, arguments)
        finally:
            RUNNING.reset(token)
        return Within(run, value) if isawaitable(value) else value

    def _converted(self, name: str, value: Any) -> Any:
        convert = self._converts.get(name)
        if convert is None:
            return value
        try:
            return convert(value)
        except Exception as error:  # constructors and validators of the user's own classes
            raise ToolValidationError(self.definition.name, complaints(error, f"/{name}")) from error

    def __repr__(self) -> str:
        return f"<tool {self.definition.name!r}: {self.handler!r}>"


class Within:
    """The rest of an async handler, which finds its run in the air as the part before did."""

    __slots__ = ("_rest", "_run")

    def __init__(self, run: ToolRun, rest: Awaitable[Any]) -> None:
        self._run, self._rest = run, rest

    def __await__(self) -> Generator[Any, Any, Any]:
        token = RUNNING.set(self._run)
        try:
            return (yield from self._rest.__await__())
        finally:
            RUNNING.reset(token)

    def close(self) -> None:
        """It is not awaited after all. What is no coroutine may be awaited by others, and closed for them too."""
        if iscoroutine(self._rest):
            self._rest.close()


def check_name(name: str) -> None:
    """Raises `ValueError` for a name that no provider would take."""
    if not isinstance(cast("Any", name), str) or TOOL_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot be a tool's name: 1 to 64 of the characters A-Z, a-z, 0-9, _ and -")


def check_settings(definition: ToolDefinition) -> None:
    """Raises `ValueError` for a setting that makes no sense, by its name."""
    for setting, (holds, wanted) in SETTINGS.items():
        if not holds(value := getattr(definition, setting)):
            raise ValueError(f"{setting} of tool {definition.name!r} is {value!r}; it must be {wanted}")


def parameters_of(definition: ToolDefinition) -> dict[str, Any]:
    """The whole schema of the arguments. Raises `ValueError` where it is no schema of an object."""
    schema: Any = definition.input_schema
    where = f"the input_schema of tool {definition.name!r}"
    if not isinstance(schema, Mapping):
        raise ValueError(f"{where} must be an object, not {schema!r}")
    keywords = cast("Mapping[str, Any]", schema)
    if keywords.get("type", "object") != "object":
        raise ValueError(f"{where} has the type {keywords['type']!r}; arguments are always an object")
    for keyword, kind in (("required", (list, tuple)), ("properties", Mapping)):
        if not isinstance(keywords.get(keyword, kind[0]() if isinstance(kind, tuple) else {}), kind):
            raise ValueError(f"{where} is malformed at /{keyword}: {keywords[keyword]!r}")
    return definition.parameters()
