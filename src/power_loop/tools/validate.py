"""The way to a validator: loads the compiler when a schema is first compiled, and the extra `jsonschema` where that needs more.

The compiler itself, and what it understands, is in `contracts.schema`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Names of properties are rarely longer.
LONG_NAME = 200

if TYPE_CHECKING:
    from power_loop.contracts.schema.checks import Check, Violation
    from power_loop.contracts.schema.compile import Validator


def compile_schema(schema: Any) -> Validator:
    """The validator of ``schema``. Raises `ValueError`, with the place, for what is malformed or not understood by anyone here."""
    from power_loop.contracts.schema.compile import compile_schema as compile_here

    return compile_here(schema, beyond=with_jsonschema)


def with_jsonschema(schema: Any, unknown: Sequence[str]) -> Check:
    """The check of a schema that asserts what ``unknown`` names, by the package `jsonschema`; nothing remote is fetched.

    Raises `ValueError` when the package is missing, or cannot take it either.
    """
    what = "; ".join(unknown)
    try:
        jsonschema: Any = import_module("jsonschema")
    except ImportError as error:
        raise ValueError(f"the schema asserts what is not validated here: {what}. pip install 'power-loop[jsonschema]' adds it") from error
    document = json.loads(json.dumps(schema, default=dict))
    try:
        jsonschema.Draft202012Validator.check_schema(document)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the schema is malformed at {_pointer(error.absolute_path) or '(root)'}: {error.message}") from error
    specification: Any = import_module("referencing.jsonschema")  # jsonschema's own resolver; this registry reaches nowhere
    _refuse_what_it_would_not_check(document, specification, what)
    bounded = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern_keyword()})
    return _check_by(bounded(document, registry=specification.EMPTY_REGISTRY))


def _pattern_keyword() -> Callable[..., Iterator[Exception]]:
    """The keyword ``pattern`` of one schema, which jsonschema would search for as long as it takes. Each is compiled once."""
    from power_loop.contracts.schema.assertions import build_pattern

    error: type[Exception] = import_module("jsonschema").ValidationError
    place: Any = None  # the document is well formed: its meta-schema was checked
    compiled = cache(partial(build_pattern, place))

    def keyword(validator: Any, text: str, value: Any, schema: Any) -> Iterator[Exception]:
        for problem in compiled(text)(value, ""):
            yield error(problem.text)

    return keyword


def _refuse_what_it_would_not_check(document: Any, specification: Any, what: str) -> None:
    """References that lead nowhere fail only when they are met, and a spelling of draft 7 is no keyword to it."""
    root = specification.DRAFT202012.create_resource(document)
    from power_loop.contracts.schema.patterns import MAX_STEPS, Pattern

    todo = [(root, specification.EMPTY_REGISTRY.resolver_with_root(root))]
    while todo:
        resource, resolver = todo.pop()
        contents: Any = resource.contents
        keywords: Mapping[str, Any] = {} if isinstance(contents, bool) else contents
        for keyword in ("$recursiveRef", "dependencies"):
            if keyword in keywords:
                raise ValueError(f"the schema uses {keyword!r}, which cannot be validated together with {what}")
        for text in keywords.get("patternProperties", ()):
            if Pattern(text).steps(LONG_NAME) > MAX_STEPS:
                raise ValueError(
                    f"the pattern {text!r} of properties might be searched for ever, which is not bounded together with {what}"
                )
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in keywords:
                _resolve(resolver, keyword, keywords[keyword])
        todo += [(part, resolver.in_subresource(part)) for part in resource.subresources()]


def _resolve(resolver: Any, keyword: str, reference: str) -> None:
    unresolvable: type[Exception] = import_module("referencing.exceptions").Unresolvable
    try:
        resolver.lookup(reference)
    except unresolvable as error:
        raise ValueError(f"the schema's {keyword!r} to {reference!r} leads out of the schema; nothing remote is fetched") from error


def _check_by(validator: Any) -> Check:
    from power_loop.contracts.schema.checks import Violation

    def check(value: Any, path: str) -> Iterator[Violation]:
        for error in validator.iter_errors(value):
            yield Violation(path + _pointer(error.absolute_path), str(error.validator), _short(error.message))

    return check


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)


def _short(message: str) -> str:
    # jsonschema quotes the whole value, which the model has just written itself.
    return message if len(message) <= 200 else f"{message[:100]} … {message[-90:]}"
