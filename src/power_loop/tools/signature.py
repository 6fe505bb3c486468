"""What a handler takes: its parameters, whether it wants the `ToolRun`, what its annotations mean.

Reads any callable (functions, bound methods, partials, objects with ``__call__``); what is made of it is the
business of `calling` and `define`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import MethodType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from power_loop.contracts.tool import ToolRun

if sys.version_info >= (3, 14):
    from annotationlib import Format

    # Names that only type checkers import stay unresolved, instead of failing where nobody asked for them.
    _read: Callable[[Any], inspect.Signature] = functools.partial(inspect.signature, annotation_format=Format.FORWARDREF)
else:
    _read: Callable[[Any], inspect.Signature] = inspect.signature

# How the class may be written where its import is for type checkers only.
_RUN_NAMES = frozenset({"ToolRun", "ToolRuntimeContext"})


class Signature:
    """The parameters of a handler, the run and what a partial has fixed left out."""

    __slots__ = ("function", "parameters", "run_name", "takes_run")

    def __init__(self, function: Any, parameters: list[inspect.Parameter]) -> None:
        self.function: Any = function
        """The plain function inside: it has the docstring and the names that annotations refer to."""
        self.takes_run: bool = bool(parameters) and parameters[0].kind in _BY_PLACE and self._is_run(parameters[0].annotation)
        by_name = self.takes_run and parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.run_name: str | None = parameters[0].name if by_name else None
        """A name that no argument may have."""
        self.parameters: list[inspect.Parameter] = parameters[1:] if self.takes_run else parameters

    def annotation(self, parameter: inspect.Parameter) -> Any:
        """The annotation as an object, also where it is written as a string. Raises `TypeError` when it cannot be found."""
        try:
            return self._resolved(parameter.annotation)
        except Exception as error:  # annotations are foreign expressions
            raise TypeError(
                f"the annotation {parameter.annotation!r} of parameter {parameter.name!r} cannot be read ({error}); "
                "names in annotations must stand at the top of their module"
            ) from error

    def _resolved(self, annotation: Any) -> Any:
        names = getattr(inspect.unwrap(self.function), "__globals__", {})
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names, include_extras=True)["it"]

    def _is_run(self, annotation: Any) -> bool:
        try:
            return is_run(self._resolved(annotation))
        except Exception:  # a foreign expression; its last word is enough here
            text = getattr(annotation, "__forward_arg__", annotation)
            return isinstance(text, str) and text.rpartition(".")[2] in _RUN_NAMES


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def is_run(annotation: Any) -> bool:
    """`ToolRun`, or `ToolRun | None`."""
    if get_origin(annotation) in (Union, UnionType):
        return any(is_run(each) for each in get_args(annotation))
    return annotation is ToolRun


def read_signature(handler: Callable[..., Any], *, of_method: bool = False) -> Signature | None:
    """What ``handler`` takes; None where Python cannot say. ``of_method``: its first parameter is the object."""
    try:
        parameters = list(_read(handler).parameters.values())
    except (TypeError, ValueError):
        return None
    fixed = _fixed(handler)
    return Signature(plain_function(handler), [each for each in parameters if each.name not in fixed][of_method:])


def is_method_in_class(handler: Any) -> bool:
    """A function that stands in a class body and takes the instance first."""
    if not inspect.isfunction(handler):
        return False
    first = next(iter(_read(handler).parameters.values()), None)
    in_class = "." in handler.__qualname__.rpartition("<locals>.")[2]
    return in_class and first is not None and first.name in ("self", "cls") and first.annotation is first.empty


def plain_function(handler: Any) -> Any:
    """The function that does the work."""
    if isinstance(handler, functools.partial):
        return plain_function(handler.func)
    if isinstance(handler, MethodType):
        return plain_function(handler.__func__)
    if inspect.isroutine(handler):
        return handler
    wrapped = getattr(handler, "__wrapped__", None)  # a @tool function or a cached one inside a partial
    return plain_function(wrapped) if wrapped is not None else type(handler).__call__


def name_of(handler: Any) -> str:
    """The name that a handler goes by: its own, that of the function in a partial, or its class's."""
    if isinstance(handler, functools.partial):
        return name_of(handler.func)
    return str(getattr(handler, "__name__", type(handler).__name__))


def is_async(handler: Any) -> bool:
    """Whether calling it is sure to give a coroutine; what gives one unexpectedly is awaited all the same."""
    return inspect.iscoroutinefunction(plain_function(handler))


def _fixed(handler: Any) -> frozenset[str]:
    """Keywords that partials have filled in: the model must neither see nor change them."""
    if not isinstance(handler, functools.partial):
        return frozenset()
    return frozenset(handler.keywords) | _fixed(handler.func)
