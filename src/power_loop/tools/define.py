"""Functions become tools: `tool` decorates them, and `function_tool` takes any callable.

The definition follows from the signature and the docstring, at once, so that what cannot be a tool fails where it
is written. The function stays what it was: it can be called, and ``__wrapped__`` is the original.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from power_loop.contracts.tool import Effects, ToolDefinition
from power_loop.tools.bound import BoundTool, check_name
from power_loop.tools.docstrings import Documentation, read_docstring
from power_loop.tools.instances import Convert
from power_loop.tools.schema import Schema, Shapes, described, has_json, help_of, object_schema
from power_loop.tools.signature import Signature, is_method_in_class, is_run, name_of, read_signature
from power_loop.tools.validate import compile_schema

P = ParamSpec("P")
R = TypeVar("R")


class FunctionTool(Generic[P, R]):
    """A callable with its `definition`. In a class it is a method: through an instance, it is that instance's tool."""

    def __init__(
        self, handler: Callable[P, R], definition: ToolDefinition, converts: Mapping[str, Convert], *, of_method: bool = False
    ) -> None:
        functools.update_wrapper(cast("Any", self), handler, updated=())
        self.__wrapped__ = handler
        self.definition = definition
        self._converts = converts
        self._of_method = of_method
        self._bound: BoundTool | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., R]:
        if instance is None or not self._of_method:
            return self
        return FunctionTool(MethodType(self.__wrapped__, instance), self.definition, self._converts)

    def bind(self) -> BoundTool:
        """The tool as a registry holds it, always the same. Raises `TypeError` for a method that no instance was given to."""
        if self._of_method:
            raise TypeError(f"{self.definition.name} is a method: hand over that of an instance, instance.{name_of(self.__wrapped__)}")
        if self._bound is None:
            self._bound = BoundTool(self.definition, self.__wrapped__, self._converts)
        return self._bound

    def __repr__(self) -> str:
        return f"<tool {self.definition.name!r} from {self.__wrapped__!r}>"


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects | None = None,
    parallel: bool | None = None,
    timeout_s: float | None = None,
    needs_approval: bool | Callable[..., Any] = False,
    retries: int = 1,
    reconcile: Callable[..., Awaitable[Any]] | None = None,
    strict: bool = False,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a function: ``@tool`` or ``@tool(effects="pure", …)``.

    ``name`` and ``description`` default to the function's own; the rest is as in `ToolDefinition`. ``strict`` closes
    the objects of pydantic models too: a name they do not know is refused instead of ignored.
    Raises `TypeError` for a parameter that has no annotation, or one without a JSON form, naming it; and for a generator.
    """
    if function is None:
        return functools.partial(function_tool, **options)
    return function_tool(function, **options)


def function_tool(
    handler: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    parallel: bool | None = None,
    strict: bool = False,
    **options: Any,
) -> FunctionTool[..., Any]:
    """``handler`` (a function, a bound method, a partial, an object with ``__call__``) with the definition it implies."""
    if isinstance(handler, (staticmethod, classmethod)):
        raise TypeError("@tool stands below @staticmethod and @classmethod, next to the function")
    called = name or name_of(handler)
    check_name(called)
    if _yields(handler):
        raise TypeError(f"tool {called!r} yields: calling it runs nothing of it. Return what it finds; run.progress() says how far it is")
    of_method = is_method_in_class(handler)
    signature = read_signature(handler, of_method=of_method)
    if signature is None:
        raise TypeError(f"tool {called!r}: Python cannot say what {handler!r} takes; register it with a ToolDefinition")
    documentation = read_docstring(inspect.getdoc(signature.function))
    schema, converts = describe(called, signature, documentation, strict=strict)
    said = documentation.description if description is None else description
    definition = ToolDefinition(called, said, schema, parallel=parallel is not False, **options)
    return FunctionTool(handler, definition, converts, of_method=of_method)


def _yields(handler: Callable[..., Any]) -> bool:
    called: tuple[Any, Any] = handler, type(handler).__call__
    return any(map(inspect.isgeneratorfunction, called)) or any(map(inspect.isasyncgenfunction, called))


def describe(name: str, signature: Signature, documentation: Documentation, *, strict: bool) -> tuple[Schema, dict[str, Convert]]:
    """The input schema that the signature implies, and the conversions of its arguments."""
    shapes = Shapes()
    properties: dict[str, Schema] = {}
    converts: dict[str, Convert] = {}
    for parameter in signature.parameters:
        try:
            annotation = annotation_of(signature, parameter)
            shape = described(shapes.of(annotation), help_of(annotation) or documentation.parameters.get(parameter.name))
        except TypeError as error:
            raise TypeError(f"tool {name!r}, parameter {parameter.name!r}: {error}") from error
        properties[parameter.name] = {**shape.schema, **default_of(parameter)}
        if shape.convert is not None:
            converts[parameter.name] = shape.convert
    required = [each.name for each in signature.parameters if each.default is each.empty]
    schema = object_schema(properties, required)
    if shapes.definitions:
        schema["$defs"] = shapes.definitions
    schema = closed(schema) if strict else schema
    if shapes.foreign:
        compile_schema(schema)  # says here, not when the model calls, what of it cannot be validated
    return schema, converts


def annotation_of(signature: Signature, parameter: inspect.Parameter) -> Any:
    """What the parameter is; raises `TypeError` for parameters that no JSON object can fill."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise TypeError(f"it is {parameter.kind.description}; arguments come by name, each declared")
    if parameter.annotation is parameter.empty:
        raise TypeError("it has no annotation, so the model cannot be told what to send")
    annotation = signature.annotation(parameter)
    if is_run(annotation):
        raise TypeError("ToolRun is handed to the first parameter only")
    return annotation


def default_of(parameter: inspect.Parameter) -> Schema:
    """The default as an annotation for the model, where JSON has it; nothing is ever filled in from it."""
    default = getattr(parameter.default, "value", parameter.default)
    return {"default": default} if default is not None and has_json(default) else {}


def closed(schema: Schema) -> Schema:
    """``schema`` with every object in it closed that lists its properties and does not say itself whether it is open."""
    made: Schema = {}
    for keyword, value in schema.items():
        match keyword, value:
            case ("properties" | "$defs", dict()):
                made[keyword] = {name: closed(part) for name, part in cast("dict[str, Schema]", value).items()}
            case ("anyOf" | "oneOf" | "prefixItems", list()):
                made[keyword] = [closed(part) for part in cast("list[Schema]", value)]
            case ("items" | "additionalProperties", dict()):
                made[keyword] = closed(cast("Schema", value))
            case _:
                made[keyword] = value
    return {**made, "additionalProperties": False} if "properties" in made and "additionalProperties" not in made else made
