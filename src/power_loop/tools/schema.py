"""Annotations become JSON Schema: what the model is told of each parameter, and how its values become instances.

Objects that we describe are closed: a parameter list, a dataclass or a TypedDict has no place for other names.
Pydantic models describe and build themselves. The conversions stand in `instances`.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Required, Union, cast, get_args, get_origin, get_type_hints

from power_loop.tools.docstrings import read_docstring
from power_loop.tools.instances import FirstThatFits, MaybeConvert, entries, in_order, items, members, one_of

Schema = dict[str, Any]


class Shape(NamedTuple):
    """One annotation, from both sides."""

    schema: Schema
    convert: MaybeConvert = None


SCALARS: dict[Any, Shape] = {
    str: Shape({"type": "string"}),
    bool: Shape({"type": "boolean"}),
    float: Shape({"type": "number"}),
    # 3.0 is an integer in JSON; a parameter annotated int gets the int that it is.
    int: Shape({"type": "integer"}, int),
    NoneType: Shape({"type": "null"}),
    Any: Shape({}),
    object: Shape({}),
}
ARRAYS: dict[Any, Callable[[Any], Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    tuple: tuple,
}
SETS: dict[Any, Callable[[Any], Any]] = {set: set, frozenset: frozenset, abc.Set: frozenset, abc.MutableSet: set}
MAPPINGS = frozenset[Any]({dict, abc.Mapping, abc.MutableMapping})
JSON_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}


class Shapes:
    """The shapes of one signature. Recursive classes, and what pydantic calls by name, stand in `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self.foreign: bool = False
        """A schema that we did not write is among them, and may say what we cannot validate."""
        self._under_way: dict[type, str] = {}
        self._groups: set[str] = set()
        self._recursive: dict[type, MaybeConvert] = {}

    def of(self, annotation: Any) -> Shape:
        """The shape of ``annotation``. Raises `TypeError` for what has none."""
        if speaks_pydantic(annotation):
            return self._pydantic(annotation)
        if isinstance(annotation, NewType):
            return self.of(annotation.__supertype__)
        if hasattr(annotation, "__value__"):  # `type X = …`, which Python 3.11 has not
            return self.of(annotation.__value__)
        origin, arguments = get_origin(annotation), get_args(annotation)
        return self._of_class(annotation) if origin is None else self._of_generic(annotation, origin, arguments)

    # --- list[int], int | None, Literal["a"], … ---------------------------------------------------------

    def _of_generic(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Shape:
        if origin is Annotated:
            return described(self.of(arguments[0]), help_of(annotation))
        if origin in (NotRequired, Required) or getattr(origin, "_name", "") == "ReadOnly":  # Python 3.11 has it in typing_extensions
            return self.of(arguments[0])
        if origin in (Union, UnionType):
            return self._union([self.of(each) for each in arguments])
        if origin is Literal:
            return choice(arguments)
        if origin is tuple and arguments[1:] != (...,):
            return self._tuple([self.of(each) for each in arguments])
        if origin in ARRAYS:
            return array(ARRAYS[origin], self.of(arguments[0]))
        if origin in SETS:
            return array(SETS[origin], self.of(arguments[0]), uniqueItems=True)
        if origin in MAPPINGS:
            return self._mapping(*arguments)
        raise unsupported(annotation)

    def _tuple(self, parts: list[Shape]) -> Shape:
        prefix = {"prefixItems": [part.schema for part in parts]} if parts else {}
        schema = {"type": "array", **prefix, "minItems": len(parts), "maxItems": len(parts)}
        return Shape(schema, in_order([part.convert for part in parts]))

    def _mapping(self, keys: Any, values: Any) -> Shape:
        key, value = self.of(keys), self.of(values)
        if key.schema.get("type", "string") != "string":
            raise TypeError(f"a dict has text for keys in JSON, not {keys!r}")
        schema: Schema = {"type": "object"}
        schema |= {"propertyNames": key.schema} if "enum" in key.schema else {}
        schema |= {"additionalProperties": value.schema} if value.schema else {}
        return Shape(schema, entries(key.convert, value.convert))

    def _union(self, parts: list[Shape]) -> Shape:
        schema: Schema = {"anyOf": [part.schema for part in parts]}
        if all(part.schema.keys() == {"type"} for part in parts):
            schema = {"type": one_or_many([name for part in parts for name in types_of(part.schema)])}
        if all(part.convert is None for part in parts):
            return Shape(schema)
        return Shape(schema, FirstThatFits(parts, self.definitions))

    # --- classes ----------------------------------------------------------------------------------------

    def _of_class(self, annotation: Any) -> Shape:
        try:
            known = SCALARS.get(annotation)
        except TypeError:  # no class has no hash; an instance that stands in its place may
            known = None
        if known is not None:
            return known
        if not isinstance(annotation, type):
            raise unsupported(annotation)
        kind = cast("type[Any]", annotation)
        if kind in ARRAYS:
            return array(ARRAYS[kind], Shape({}))
        if kind in SETS:
            return array(SETS[kind], Shape({}), uniqueItems=True)
        if kind in MAPPINGS:
            return Shape({"type": "object"})
        if issubclass(kind, Enum):
            return described(choice(tuple(kind)), own_doc(kind))
        if is_typed_dict(kind):
            return self._once(kind, self._typed_dict)
        if dataclasses.is_dataclass(kind):
            return self._once(kind, self._dataclass)
        raise unsupported(annotation)

    def _once(self, kind: type, describe: Callable[[Any], Shape]) -> Shape:
        """The shape of a class; met again inside itself, it is a reference."""
        if kind in self._under_way:
            self._recursive[kind] = None
            return Shape({"$ref": f"#/$defs/{self._under_way[kind]}"}, partial(self._convert_again, kind))
        name = self._under_way[kind] = self._free_name(kind.__name__)
        try:
            shape = describe(kind)
        finally:
            del self._under_way[kind]
        if kind not in self._recursive:
            return shape
        self.definitions[name] = shape.schema
        self._recursive[kind] = shape.convert
        return Shape({"$ref": f"#/$defs/{name}"}, shape.convert)

    def _convert_again(self, kind: type, value: Any) -> Any:
        convert = self._recursive[kind]
        return value if convert is None else convert(value)

    def _free_name(self, wanted: str) -> str:
        taken = {*self.definitions, *self._groups, *self._under_way.values()}
        numbered = (wanted if number == 1 else f"{wanted}{number}" for number in range(1, len(taken) + 2))
        return next(name for name in numbered if name not in taken)

    def _dataclass(self, kind: type) -> Shape:
        hints = hints_of(kind)
        fields = [each for each in dataclasses.fields(cast("Any", kind)) if each.init]
        required = [each.name for each in fields if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING]
        schema, converts = self._object(kind, {each.name: hints[each.name] for each in fields}, required)
        return Shape(schema, members(kind, converts))

    def _typed_dict(self, kind: Any) -> Shape:
        hints = hints_of(kind)
        # Where annotations are strings, Python lists every key of a total one as required: the wrapper decides.
        wrapper = {name: get_origin(hint) for name, hint in hints.items()}
        required = [
            name for name in hints if wrapper[name] is Required or (name in kind.__required_keys__ and wrapper[name] is not NotRequired)
        ]
        schema, converts = self._object(kind, hints, required)
        return Shape(schema, members(dict[str, Any], converts) if any(converts.values()) else None)

    def _object(self, kind: type, hints: Mapping[str, Any], required: Sequence[str]) -> tuple[Schema, dict[str, MaybeConvert]]:
        """The schema of a class with these members, explained by its docstring, and their conversions."""
        documentation = read_docstring(own_doc(kind))
        parts: dict[str, Shape] = {}
        for name, hint in hints.items():
            try:
                parts[name] = described(self.of(hint), help_of(hint) or documentation.parameters.get(name))
            except TypeError as error:
                raise TypeError(f"{kind.__name__}.{name}: {error}") from error
        schema = object_schema({name: part.schema for name, part in parts.items()}, required)
        about = {"description": documentation.description} if documentation.description else {}
        return {**schema, **about}, {name: part.convert for name, part in parts.items()}

    # --- pydantic ----------------------------------------------------------------------------------------

    def _pydantic(self, annotation: Any) -> Shape:
        """The shape that pydantic gives. It is not imported for it: who annotates with it has done that."""
        pydantic: Any = sys.modules.get("pydantic")
        if pydantic is None:
            raise TypeError(f"{annotation!r} needs pydantic: pip install 'power-loop[pydantic]' and import it")
        self.foreign = True
        adapter = pydantic.TypeAdapter(annotation)
        group = self._free_name(getattr(annotation, "__name__", "Value"))
        schema: Schema = without_constants(adapter.json_schema(ref_template=f"#/$defs/{group}.{{model}}"))
        # Its definitions bear its name, so that those of another model of this name are not mixed with them.
        self._groups.add(group)
        self.definitions |= {f"{group}.{name}": part for name, part in schema.pop("$defs", {}).items()}
        return described(Shape(schema, adapter.validate_python), help_of(annotation))


def array(build: Callable[[Any], Any], item: Shape, **more: Any) -> Shape:
    schema = {"type": "array", **more, **({"items": item.schema} if item.schema else {})}
    return Shape(schema, items(build, item.convert))


def choice(instances: tuple[Any, ...]) -> Shape:
    """The shape of a choice of values or enum members. Raises `TypeError` for values that JSON has not."""
    values = [each.value if isinstance(each, Enum) else each for each in instances]
    strange = [value for value in values if not has_json(value)]
    if strange or not values:
        raise TypeError(f"a choice takes text, numbers, booleans and None, not {strange[0] if strange else 'nothing'!r}")
    schema: Schema = {"type": one_or_many([JSON_TYPES[type(value)] for value in values]), "enum": values}
    as_they_are = all(type(each) is str or each is None for each in instances)
    return Shape(schema, None if as_they_are else one_of(values, instances))


def has_json(value: Any) -> bool:
    """It is text, a boolean, None, or a number that JSON has: neither infinite nor nan."""
    return type(value) in JSON_TYPES and (type(value) is not float or math.isfinite(value))


def without_constants(part: Any) -> Any:
    """A part of a schema without members that are infinite or nan, such as a default: JSON has no word for them."""
    if isinstance(part, dict):
        members_of = cast("Schema", part).items()
        return {name: without_constants(each) for name, each in members_of if type(each) is not float or has_json(each)}
    return [without_constants(each) for each in cast("list[Any]", part)] if isinstance(part, list) else part


def types_of(schema: Schema) -> list[str]:
    """The JSON types that a schema names: one, or those of a union."""
    named = schema["type"]
    return cast("list[str]", named) if isinstance(named, list) else [named]


def one_or_many(types: Sequence[str]) -> str | list[str]:
    """The value of the keyword ``type``: each type once, and one alone without a list."""
    each = list(dict.fromkeys(types))
    return each[0] if len(each) == 1 else each


def object_schema(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """A closed object."""
    needs = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(properties), **needs, "additionalProperties": False}


def described(shape: Shape, text: str | None) -> Shape:
    """``shape`` with a description for the model, in the place of the one it has."""
    return Shape({**shape.schema, "description": text}, shape.convert) if text else shape


def help_of(annotation: Any) -> str | None:
    """The text in ``Annotated[T, "text"]``."""
    if get_origin(annotation) in (NotRequired, Required):
        return help_of(get_args(annotation)[0])
    return next((each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, str)), None)


def is_typed_dict(kind: type[Any]) -> bool:
    return issubclass(kind, dict) and hasattr(cast("Any", kind), "__total__")


def hints_of(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception as error:  # annotations are foreign expressions
        raise TypeError(f"its annotations cannot be read ({error}); names in annotations must stand at the top of their module") from error


def own_doc(kind: type) -> str | None:
    """The docstring that somebody wrote; not the one that `dataclass` makes of the fields."""
    text: str | None = kind.__dict__.get("__doc__")
    return None if text is None or text.startswith(f"{kind.__name__}(") else text


def speaks_pydantic(annotation: Any) -> bool:
    """A model or type of pydantic, or something annotated with its constraints."""
    if get_origin(annotation) is Annotated:
        return any(package_of(each.__class__) in ("pydantic", "annotated_types") for each in annotation.__metadata__)
    return isinstance(annotation, type) and any(package_of(base) == "pydantic" for base in type.mro(annotation))


def package_of(kind: Any) -> str:
    return str(kind.__module__).partition(".")[0]


def unsupported(annotation: Any) -> TypeError:
    return TypeError(
        f"{annotation!r} has no JSON form known here; use text, numbers, booleans, None, Literal, enums, list, dict, tuple, "
        "dataclasses, TypedDict or pydantic models"
    )
