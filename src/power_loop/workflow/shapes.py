"""What a node's result can look like, as far as its schema says.

So a reference to what cannot be there is found before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from power_loop.contracts.documents import shown

# Keywords with which a schema says more than one thing of a place; what they forbid together is not worked out here.
_BRANCHING = ("anyOf", "oneOf", "allOf", "not", "if", "$dynamicRef", "$ref", "dependentSchemas", "enum", "const")
MAX_REFS = 20


class Shape(NamedTuple):
    """What is known of a value: a part of a JSON Schema, or nothing."""

    schema: Any = True
    root: Any = True
    """The document that the schema's references point into."""
    text_of: str | None = None
    """The id of the agent whose answer this is, when it answers with text."""
    aggregate: bool = False
    """Of a foreach or parallel node: ``{"items": […]}``."""


ANY = Shape()


def text_of(node_id: str) -> Shape:
    """The answer of an agent without a schema."""
    return Shape({"type": "string"}, text_of=node_id)


def of_schema(schema: Any) -> Shape:
    return Shape(schema, schema)


def items_of_runs(body: Shape | None = None) -> Shape:
    """What a foreach or parallel node yields."""
    items = {"type": "array", "items": True if body is None else body.schema}
    root = True if body is None else body.root
    return Shape({"type": "object", "properties": {"items": items}, "additionalProperties": False}, root, aggregate=True)


class Step(NamedTuple):
    """One key or index further."""

    shape: Shape | None
    """None: it cannot be there."""
    why: str = ""
    """Why it cannot be, or, with a shape, what speaks against it."""


def step(shape: Shape, key: str | int) -> Step:
    """What is at ``key`` of a value of this shape."""
    schema = _resolved(shape)
    if schema is True:
        return Step(ANY)
    if schema is False:
        return Step(None, "the schema allows no value there")
    if any(word in schema for word in _BRANCHING):
        return Step(ANY)
    types: Any = schema.get("type")
    wanted = "array" if isinstance(key, int) else "object"
    if types is not None and wanted not in ([types] if isinstance(types, str) else types):
        if shape.text_of is not None:
            return Step(None, f"{shape.text_of} answers with text, which has neither keys nor items; give it an output_schema")
        return Step(None, f"its schema says {types if isinstance(types, str) else ' or '.join(types)}")
    return _item(shape, schema, key) if isinstance(key, int) else _member(shape, schema, key)


def item_of(shape: Shape) -> Shape:
    """What an item of this list looks like."""
    schema = _resolved(shape)
    items: Any = schema.get("items", True) if isinstance(schema, dict) and "prefixItems" not in schema else True
    return shape._replace(schema=items, text_of=None, aggregate=False) if isinstance(items, (dict, bool)) else ANY


def may_be_list(shape: Shape) -> bool:
    schema = _resolved(shape)
    if schema is False:
        return False
    if schema is True or any(word in schema for word in _BRANCHING):
        return True
    types: Any = schema.get("type", "array")
    return "array" in ([types] if isinstance(types, str) else types)


def _resolved(shape: Shape) -> dict[str, Any] | bool:
    """The schema behind local references; true where that cannot be told."""
    schema: Any = shape.schema
    for _ in range(MAX_REFS):
        if not isinstance(schema, dict) or set(cast("dict[str, Any]", schema)) - {"$ref", "description", "title"} or "$ref" not in schema:
            break
        schema = _pointed(shape.root, str(cast("Any", schema["$ref"])))
    return cast("dict[str, Any]", schema) if isinstance(schema, dict) else schema is not False


def _pointed(root: Any, pointer: str) -> Any:
    part = root if pointer.startswith("#") else True
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        part = cast("dict[str, Any]", part).get(key, True) if isinstance(part, dict) else True
    return part


def _item(shape: Shape, schema: Mapping[str, Any], index: int) -> Step:
    most = schema.get("maxItems")
    if isinstance(most, (int, float)) and index >= most:
        return Step(None, f"its schema allows at most {most} items")
    first: Any = schema.get("prefixItems")
    if isinstance(first, list) and index < len(cast("list[Any]", first)):
        return Step(shape._replace(schema=first[index], aggregate=False))
    if schema.get("items") is False:
        return Step(None, "its schema allows no such item")
    return Step(item_of(shape))


def _member(shape: Shape, schema: Mapping[str, Any], key: str) -> Step:
    known: Any = schema.get("properties")
    known = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
    if key in known:
        return Step(shape._replace(schema=known[key], aggregate=False))
    if _matches(schema.get("patternProperties"), key):
        return Step(ANY)
    has = f"its schema has {', '.join(list(known)[:10]) or 'no keys'}"
    others: Any = schema.get("additionalProperties", True)
    if others is False:
        return Step(None, f"there is no key {shown(key)}: {has}")
    listed = f"{shown(key)} is no key that {has.replace('its schema has', 'its schema lists:')}" if known and others is True else ""
    return Step(shape._replace(schema=others, aggregate=False), listed)


def _matches(patterns: Any, key: str) -> bool:
    return isinstance(patterns, dict) and any(re.search(pattern, key) for pattern in cast("dict[str, Any]", patterns))
