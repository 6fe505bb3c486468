"""From what a caller wants as the answer to the form that answers are read by.

Types become schemas as those of tool parameters do (`schema`), and documents become their instances. Providers take objects
only, so that any other schema is sent inside of one, and its value is taken out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from power_loop.contracts.errors import StructuredOutputError
from power_loop.contracts.partial_json import partial_json
from power_loop.contracts.structured import NAME, WRAPPED, OutputForm, StructuredOutputSpec, document_in
from power_loop.contracts.text import wire_name
from power_loop.tools.instances import MaybeConvert, complaints
from power_loop.tools.schema import Schema, Shapes
from power_loop.tools.validate import compile_schema

if TYPE_CHECKING:
    from power_loop.contracts.schema.checks import Violation
    from power_loop.contracts.schema.compile import Validator

TEXT: Schema = {"type": "string"}
JSON_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
DEFINITIONS = ("$defs", "definitions")
# Places of a schema that hold values, in which a "$ref" is no reference.
VALUES = frozenset({"const", "enum", "default", "example", "examples"})
# Places whose members are named by whoever wrote the schema: each is one, whatever its name.
MEMBERS = frozenset({"properties", "patternProperties", "dependentSchemas", *DEFINITIONS})


def parse_structured(output: str | Mapping[str, Any], *, schema: Any = None) -> dict[str, Any]:
    """The object in a model's text, held against the whole ``schema`` (a JSON Schema, or a `StructuredOutputSpec`).

    Raises `StructuredOutputError`: ``no_json``, ``invalid_json``, ``not_object``, ``missing_required:FIELD`` or
    ``schema:JSON_POINTER``, with every violation in ``detail``; `ValueError` for a schema that is none.
    """
    text = output if isinstance(output, str) else json.dumps(dict(output), ensure_ascii=False)
    found = object_of(document_in(text), text)
    if schema is not None:
        wanted = schema.schema if isinstance(schema, StructuredOutputSpec) else schema
        refuse(compile_schema(wanted).problems(found), text)
    return found


def output_form(wanted: Any) -> OutputForm:
    """The form of what a caller gave as ``output_type``.

    Raises `TypeError` for what is no type with a JSON form, and `ValueError` for a malformed schema.
    """
    if isinstance(wanted, StructuredOutputSpec):
        return Form(wanted)
    if isinstance(wanted, Mapping):
        return Form(_spec_in(cast("Mapping[str, Any]", wanted)))
    try:
        return _known_form(wanted, repr(wanted)) if _is_hashable(wanted) else _form_of_type(wanted)
    except TypeError as error:
        raise TypeError(f"output_type= takes a type, a JSON Schema or a StructuredOutputSpec: {error}") from error


def is_output_type(given: Any) -> bool:
    """``response_format=`` with one of these means ``output_type=``; a dict in a provider's own words is handed on as it is."""
    if isinstance(given, Mapping):
        schema = cast("Mapping[str, Any]", given)
        kind = schema.get("type")
        return isinstance(kind, list) or kind in JSON_TYPES or ("type" not in schema and bool(schema))
    return given is not None


class Form:
    """One form, ready to be asked for and to read answers by."""

    __slots__ = ("_bare", "_convert", "_is_text", "_spec", "_validator", "response_format")

    def __init__(self, spec: StructuredOutputSpec, convert: MaybeConvert = None) -> None:
        self._spec, self._convert = spec, convert
        self._is_text = spec.schema == TEXT
        own, root = compile_schema(spec.schema), as_object(spec.schema)
        self._bare: Validator | None = own if root is None else None
        """Of the value alone, where an object is put around it."""
        root = root or wrapped(spec.schema)
        self._validator = own if self._bare is None else compile_schema(root)
        self.response_format: dict[str, Any] | None = None if self._is_text else replace(spec, schema=root).to_openai_response_format()

    def stored(self) -> dict[str, Any]:
        return self._spec.stored()

    def read(self, text: str) -> Any:
        value = text if self._is_text else self._document(text)
        if self._convert is None:
            return value
        try:
            return self._convert(value)
        except Exception as error:  # constructors and validators of the user's own classes
            detail = complaints(error, "")
            pointer = detail.partition(": ")[0]
            raise StructuredOutputError(f"schema:{pointer}", text, detail if pointer else f"(root){detail}") from error

    def so_far(self, text: str) -> Any:
        if self._is_text:
            return text
        found = partial_json(text)
        if self._bare is not None and isinstance(found, dict):
            return cast("dict[str, Any]", found).get(WRAPPED)
        return found

    def _document(self, text: str) -> Any:
        found: Any = document_in(text)
        if self._bare is None:
            return _checked(self._validator, object_of(found, text), text)
        # In prose, or without the schema at hand, models forget the object around the value.
        if isinstance(found, dict) and WRAPPED in found:
            return _checked(self._validator, cast("dict[str, Any]", found), text)[WRAPPED]
        return _checked(self._bare, found, text)


def object_of(found: Any, text: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise StructuredOutputError("not_object", text, f"it is a JSON {type(found).__name__}, and an object was asked for")
    return cast("dict[str, Any]", found)


def _checked(validator: Validator, value: Any, text: str) -> Any:
    refuse(validator.problems(value), text)
    return value


def refuse(problems: list[Violation], text: str) -> None:
    """Raises `StructuredOutputError` when there are ``problems``."""
    if not problems:
        return
    missing = next((each for each in problems if each.keyword == "required" and each.path.count("/") == 1), None)
    first = missing or problems[0]
    reason = f"missing_required:{first.path[1:]}" if missing is not None else f"schema:{first.path}"
    raise StructuredOutputError(reason, text, "\n".join(map(str, problems)))


# --- schemas -----------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _known_form(wanted: Any, spelled: str) -> Form:
    """``spelled`` tells apart what is equal to Python: the first member of a union that a document fits is what it becomes."""
    return _form_of_type(wanted)


def _is_hashable(wanted: Any) -> bool:
    try:
        hash(wanted)
    except TypeError:
        return False
    return True


def _form_of_type(wanted: Any) -> Form:
    shapes = Shapes()
    shape = shapes.of(wanted)
    schema = shape.schema | ({"$defs": shapes.definitions} if shapes.definitions else {})
    name = wire_name(getattr(wanted, "__name__", "output")) if isinstance(wanted, type) else "output"
    return Form(StructuredOutputSpec(name, schema, strict=may_be_strict(rooted(schema))), shape.convert)


def _spec_in(given: Mapping[str, Any]) -> StructuredOutputSpec:
    """The spec that a dict means: a JSON Schema, or a response format of type ``json_schema``."""
    if given.get("type") == "json_schema":
        inner: Mapping[str, Any] = given.get("json_schema") or given
        return StructuredOutputSpec(str(inner.get("name") or "output"), inner.get("schema"), inner.get("strict") is True)  # pyright: ignore[reportArgumentType]  # it checks that itself
    title = given.get("title")
    name = title if isinstance(title, str) and NAME.fullmatch(title) else "output"
    return StructuredOutputSpec(name, given, strict=may_be_strict(rooted(given)))


def rooted(schema: Mapping[str, Any]) -> Schema:
    """``schema`` as a schema of an object, which is all that providers take."""
    return as_object(schema) or wrapped(schema)


def as_object(schema: Mapping[str, Any]) -> Schema | None:
    """``schema`` with an object's keywords at its root; None where its values are no objects, or not only."""
    root = dict(schema)
    reference = root.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        root = {**target, **{name: value for name, value in root.items() if name != "$ref"}}
    if root.get("type") == "object":
        return root
    if "type" not in root and "properties" in root:
        return {"type": "object", **root}
    return None


def wrapped(schema: Mapping[str, Any]) -> Schema:
    """The schema of an object that holds a value of ``schema``."""
    hoisted = {name: schema[name] for name in DEFINITIONS if name in schema}
    inner = {name: value for name, value in schema.items() if name not in hoisted}
    return {
        "type": "object", "properties": {WRAPPED: _moved(inner)}, "required": [WRAPPED], "additionalProperties": False,
        **{name: _moved(value) for name, value in hoisted.items()},
    }  # fmt: skip


def _moved(part: Any) -> Any:
    """References to places of the schema lead to where these stand now; its definitions are at the root as before."""
    if isinstance(part, (list, tuple)):
        return [_moved(each) for each in cast("list[Any]", part)]
    if not isinstance(part, Mapping):
        return part
    moved: Schema = {}
    for name, value in cast("Mapping[str, Any]", part).items():
        if name == "$ref" and isinstance(value, str) and value.startswith("#") and not value.startswith(("#/$defs/", "#/definitions/")):
            moved[name] = f"#/properties/{WRAPPED}{value[1:]}"
        elif name in MEMBERS and isinstance(value, Mapping):
            moved[name] = {member: _moved(part) for member, part in cast("Mapping[str, Any]", value).items()}
        else:
            moved[name] = value if name in VALUES else _moved(value)
    return moved


def may_be_strict(schema: Any) -> bool:
    """Every object in ``schema`` is closed and needs all of its members: what providers demand of a strict schema."""
    if isinstance(schema, (list, tuple)):
        return all(map(may_be_strict, cast("list[Any]", schema)))
    if not isinstance(schema, Mapping):
        return True
    keywords = cast("Mapping[str, Any]", schema)
    if keywords.get("type") == "object" or "properties" in keywords:
        members = keywords.get("properties", {})
        if keywords.get("additionalProperties") is not False or set(keywords.get("required", ())) != set(members):
            return False
    return all(map(may_be_strict, _schemas_in(keywords)))


def _schemas_in(keywords: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in keywords.items():
        if name in MEMBERS and isinstance(value, Mapping):
            yield from cast("Mapping[str, Any]", value).values()
        elif name not in VALUES:
            yield value
