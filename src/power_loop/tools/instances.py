"""Valid JSON becomes what an annotation promised: the conversions that `schema` puts together.

They run after validation, inside the call, so each may rely on the shape of what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from power_loop.tools.validate import compile_schema

if TYPE_CHECKING:
    from power_loop.contracts.schema.compile import Validator

Convert = Callable[[Any], Any]
MaybeConvert = Convert | None
"""None where JSON and instance are the same."""


def converted(convert: MaybeConvert, value: Any) -> Any:
    return value if convert is None else convert(value)


def items(build: Convert, each: MaybeConvert) -> MaybeConvert:
    """For a list, a set or a tuple of one kind of items."""
    if each is None:
        return None if build is list else build

    def convert(values: Sequence[Any]) -> Any:
        return build([each(value) for value in values])

    return convert


def in_order(converts: Sequence[MaybeConvert]) -> Convert:
    """For a tuple with a kind for each place."""

    def convert(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(converted(each, value) for each, value in zip(converts, values, strict=True))

    return convert


def entries(key: MaybeConvert, item: MaybeConvert) -> MaybeConvert:
    """For a dict."""
    if key is None and item is None:
        return None

    def convert(found: Mapping[str, Any]) -> dict[Any, Any]:
        return {converted(key, name): converted(item, value) for name, value in found.items()}

    return convert


def members(build: Callable[..., Any], converts: Mapping[str, MaybeConvert]) -> Convert:
    """For a class whose constructor takes its members by name."""

    def convert(found: Mapping[str, Any]) -> Any:
        return build(**{name: converted(converts[name], value) for name, value in found.items()})

    return convert


def one_of(values: Sequence[Any], instances: Sequence[Any]) -> Convert:
    """For a choice: each value stands for the instance at its place."""
    # 1 and True are one key to Python and two values to JSON.
    by_value = {(isinstance(value, bool), value): instance for value, instance in zip(values, instances, strict=True)}

    def convert(value: Any) -> Any:
        return by_value[isinstance(value, bool), value]

    return convert


class FirstThatFits:
    """For a union: converted as the first part whose schema the value keeps."""

    __slots__ = ("_definitions", "_parts", "_validators")

    def __init__(self, parts: Sequence[tuple[Mapping[str, Any], MaybeConvert]], definitions: Mapping[str, Any]) -> None:
        self._parts = parts
        self._definitions = definitions
        self._validators: list[Validator] | None = None

    def __call__(self, value: Any) -> Any:
        if self._validators is None:
            # Not before the first value: only then do the definitions hold every class of the signature.
            self._validators = [compile_schema({**schema, "$defs": self._definitions}) for schema, _ in self._parts]
        for validator, (_, convert) in zip(self._validators, self._parts, strict=True):
            if validator.is_valid(value):
                return converted(convert, value)
        return value


def complaints(error: Exception, path: str) -> str:
    """Why a class refused its value, a line for each reason; a pydantic error knows where inside of it."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return f"{path}: {error}"
    found: Any = listed()
    return "\n".join(f"{path}{''.join(f'/{part}' for part in each['loc'])}: {each['msg']}" for each in found)
