"""How a handler is called with a call's arguments: settled once, at registration, never tried out.

By keyword where its parameters can take the schema's required properties by name; with one dict where it has
exactly one free positional parameter whose name is no property; the `ToolRun` first in both, where it asks for it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from power_loop.contracts.tool import ToolRun
from power_loop.tools.signature import Signature, read_signature

Call = Callable[[ToolRun, Mapping[str, Any]], Any]

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Calling(NamedTuple):
    """The way to call one handler."""

    call: Call
    takes: frozenset[str] | None = None
    """The only argument names that the handler can take; None: any."""
    needs: frozenset[str] = frozenset()
    """Arguments without which it cannot be called although the schema does not require them."""

    def problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What keeps the handler from being called with arguments that keep the schema."""
        found: list[str] = []
        if self.takes is not None and not self.takes.issuperset(arguments):
            found += [f"/{name}: this tool cannot take it" for name in arguments if name not in self.takes]
        if self.needs and not self.needs.issubset(arguments):
            found += [f"/{name}: is required, and missing" for name in sorted(self.needs) if name not in arguments]
        return found


def settle(name: str, handler: Callable[..., Any], properties: frozenset[str], required: frozenset[str]) -> Calling:
    """How to call ``handler`` as the tool ``name`` whose schema has these property names.

    Raises `TypeError` when neither way fits; warns about an optional property that the handler cannot take.
    """
    signature = read_signature(handler)
    if signature is None:
        return Calling(_by_keyword(handler, takes_run=False))
    by_name = _calling_by_name(handler, signature, properties, required)
    fits_dict = _fits_one_dict(signature, properties)
    if by_name is not None and (by_name.takes is None or by_name.takes >= properties or not fits_dict):
        _warn_of_gaps(name, by_name, properties)
        return by_name
    if fits_dict:
        return Calling(_by_dict(handler, takes_run=signature.takes_run))
    raise TypeError(_no_way(name, handler, signature, required))


def _calling_by_name(
    handler: Callable[..., Any], signature: Signature, properties: frozenset[str], required: frozenset[str]
) -> Calling | None:
    names = frozenset(each.name for each in signature.parameters if each.kind in _BY_NAME)
    anything = any(each.kind == inspect.Parameter.VAR_KEYWORD for each in signature.parameters)
    mandatory = frozenset(each.name for each in _mandatory(signature))
    if not (anything or required <= names) or not mandatory <= properties & names:
        return None
    if anything and signature.run_name in properties:
        return None
    return Calling(_by_keyword(handler, signature.takes_run), None if anything else names, mandatory - required)


def _fits_one_dict(signature: Signature, properties: frozenset[str]) -> bool:
    by_place = [each for each in signature.parameters if each.kind in _BY_PLACE]
    others = [each for each in _mandatory(signature) if each not in by_place]
    return len(by_place) == 1 and not others and by_place[0].name not in properties


def _mandatory(signature: Signature) -> list[inspect.Parameter]:
    return [each for each in signature.parameters if each.default is each.empty and each.kind not in _VARIADIC]


def _by_keyword(handler: Callable[..., Any], takes_run: bool) -> Call:
    if takes_run:
        return lambda run, arguments: handler(run, **arguments)
    return lambda run, arguments: handler(**arguments)


def _by_dict(handler: Callable[..., Any], takes_run: bool) -> Call:
    # A dict of its own: what the handler does to it must not reach the records.
    if takes_run:
        return lambda run, arguments: handler(run, dict(arguments))
    return lambda run, arguments: handler(dict(arguments))


def _warn_of_gaps(name: str, calling: Calling, properties: frozenset[str]) -> None:
    untaken = sorted(properties - calling.takes) if calling.takes is not None else []
    gaps = [f"cannot take {', '.join(untaken)}"] if untaken else []
    if calling.needs:
        gaps.append(f"cannot do without {', '.join(sorted(calling.needs))}, which the schema does not require")
    if gaps:
        warnings.warn(f"the handler of tool {name!r} {' and '.join(gaps)}; such calls are answered as invalid", stacklevel=5)


def _no_way(name: str, handler: Callable[..., Any], signature: Signature, required: frozenset[str]) -> str:
    takes = ", ".join(each.name for each in signature.parameters) or "nothing"
    return (
        f"tool {name!r}: {handler!r} takes {takes}, but the schema requires {', '.join(sorted(required)) or 'nothing'}; "
        "let it take the required properties by name (other than that of its ToolRun), or all of them as one dict"
    )
