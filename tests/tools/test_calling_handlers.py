"""How a handler is called is settled at registration, and holds for every call: once, by keyword or with one dict."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from power_loop.contracts.tool import ToolDefinition, ToolRun
from power_loop.tools.bound import BoundTool
from power_loop.tools.toolbox import ToolRegistry

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
RUN = ToolRun(call_id="c1", deps="the deps")


def bound(handler: Callable[..., Any], schema: dict[str, Any] = CITY, **more: Any) -> BoundTool:
    return BoundTool(ToolDefinition("forecast", "", schema, **more), handler)


def by_name(city: str, days: int = 1) -> Any:
    return "by name", city, days


def with_keywords(**kw: Any) -> Any:
    return "keywords", kw


def one_dict(args: dict[str, Any]) -> Any:
    return "dict", args


def run_and_names(run: ToolRun, city: str, days: int = 1) -> Any:
    return run.call_id, city, days


def run_and_dict(run: ToolRun, args: dict[str, Any]) -> Any:
    return run.call_id, args


def maybe_run(run: ToolRun | None, *, city: str, days: int = 2) -> Any:
    return run and run.deps, city, days


def hidden_run(where: ToolRun, args: dict[str, Any]) -> Any:
    return where.deps, args


hidden_run.__annotations__["where"] = "imported_for_type_checkers_only.ToolRun"


def dict_and_more(args: dict[str, Any], verbose: bool = False, *rest: Any, **kw: Any) -> Any:
    return args


class Handler:
    def method(self, city: str, days: int = 0) -> Any:
        return city, days

    def __call__(self, args: dict[str, Any]) -> Any:
        return "object", args


# acceptance: 118, 119 (the dict convention)
@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (by_name, ("by name", "Rome", 3)),
        (with_keywords, ("keywords", {"city": "Rome", "days": 3})),
        (one_dict, ("dict", {"city": "Rome", "days": 3})),
        (run_and_names, ("c1", "Rome", 3)),
        (run_and_dict, ("c1", {"city": "Rome", "days": 3})),
        (maybe_run, ("the deps", "Rome", 3)),
        (hidden_run, ("the deps", {"city": "Rome", "days": 3})),
        (Handler().method, ("Rome", 3)),
        (Handler(), ("object", {"city": "Rome", "days": 3})),
        (functools.partial(run_and_names, RUN), ("c1", "Rome", 3)),
        (lambda args, /: args["city"], "Rome"),
    ],
    ids=lambda each: getattr(each, "__name__", "") or type(each).__name__,
)
def test_a_handler_is_called_as_its_signature_wants(handler: Any, result: Any) -> None:
    tool = bound(handler)
    arguments = {"city": "Rome", "days": 3}
    assert tool.violations(arguments) is None
    assert tool.call(RUN, arguments) == result


def clear(run: ToolRun, args: dict[str, Any]) -> None:
    args.clear()


@pytest.mark.parametrize("handler", [lambda args: args.clear(), clear])
def test_the_dict_is_the_handlers_own(handler: Any) -> None:
    arguments = {"city": "Rome"}
    bound(handler).call(RUN, arguments)
    assert arguments == {"city": "Rome"}


def test_a_callable_that_python_cannot_read_gets_keywords() -> None:
    assert bound(dict).call(RUN, {"city": "Rome"}) == {"city": "Rome"}


def test_a_handler_without_parameters_serves_a_tool_without_arguments() -> None:
    assert bound(lambda: "now", NOTHING).call(RUN, {}) == "now"
    assert bound(lambda args: args, NOTHING).call(RUN, {"extra": 1}) == {"extra": 1}


def two_places(args: dict[str, Any], other: dict[str, Any]) -> None: ...
def other_names(*, town: str) -> None: ...
def nothing_at_all() -> None: ...
def place_of_a_property(city: str, /) -> None: ...
def only_run(run: ToolRun) -> None: ...
def run_called_as_a_property(city: ToolRun, **args: Any) -> None: ...


@pytest.mark.parametrize("handler", [two_places, other_names, nothing_at_all, place_of_a_property, only_run, run_called_as_a_property])
def test_a_handler_that_cannot_take_the_arguments_is_refused_at_registration(handler: Any) -> None:
    with pytest.raises(TypeError, match=r"tool 'forecast': .* but the schema requires city"):
        bound(handler)


def test_a_run_that_is_taken_by_place_alone_leaves_its_name_to_a_property() -> None:
    def handler(city: ToolRun, /, **args: Any) -> Any:
        return args

    assert bound(handler).call(RUN, {"city": "Rome"}) == {"city": "Rome"}


def test_a_property_that_the_handler_cannot_take_is_warned_about_and_answered_as_invalid() -> None:
    with pytest.warns(UserWarning, match="'forecast' cannot take days"):
        tool = bound(lambda city: city)
    assert tool.violations({"city": "Rome", "days": 1}) == "/days: this tool cannot take it"
    assert tool.violations({"city": "Rome", "other": 1}) == "/other: this tool cannot take it"
    assert tool.violations({"city": "Rome"}) is None


def test_a_parameter_that_the_schema_does_not_require_is_warned_about_and_answered_as_missing() -> None:
    with pytest.warns(UserWarning, match="cannot do without days"):
        tool = bound(lambda city, days: (city, days))
    assert tool.violations({"city": "Rome"}) == "/days: is required, and missing"
    assert tool.violations({"city": "Rome", "days": 2}) is None


# acceptance: 119
@pytest.mark.parametrize("handler_parameters", ["city", "args", "**kw"])
def test_a_type_error_inside_a_handler_is_its_own_and_never_a_second_call(handler_parameters: str) -> None:
    calls = itertools.count()

    def body() -> None:
        next(calls)
        raise TypeError("handler() got an unexpected keyword argument 'city'")

    handlers: dict[str, Callable[..., Any]] = {
        "city": lambda city, days=1: body(),
        "args": lambda args: body(),
        "**kw": lambda **kw: body(),
    }
    tool = bound(handlers[handler_parameters])
    with pytest.raises(TypeError, match="unexpected keyword argument 'city'"):
        tool.call(RUN, {"city": "Rome"})
    assert next(calls) == 1


# acceptance: 118 (schema)
def test_the_run_is_handed_to_the_first_parameter_and_no_part_of_the_schema() -> None:
    def forecast(anything: ToolRun, city: str) -> Any:
        return anything.deps, city

    registry = ToolRegistry([forecast])
    (offered,) = registry.to_openai_tools()
    assert list(offered["function"]["parameters"]["properties"]) == ["city"]
    assert registry.invoke("forecast", {"city": "Rome"}, run=RUN) == ("the deps", "Rome")
    assert registry.invoke("forecast", {"city": "Rome"}) == (None, "Rome")
    assert "/anything" in str(registry.validate("forecast", {"city": "Rome", "anything": {}}))


def test_nothing_is_coerced_or_filled_in() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": 5}}}
    tool = bound(one_dict, schema)
    assert tool.violations({"n": "3"}) == '/n: must be an integer, not "3"'
    assert tool.violations({"n": 3.0}) is None
    assert tool.call(RUN, {}) == ("dict", {})
    assert tool.call(RUN, {"n": 3.0}) == ("dict", {"n": 3.0})
