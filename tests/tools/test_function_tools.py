"""Functions become tools: what the model is told follows signature and docstring, and arguments arrive as annotated."""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, Required, TypedDict

import pydantic
import pytest

from power_loop.contracts.errors import ToolValidationError
from power_loop.contracts.tool import ToolRun
from power_loop.tools.define import FunctionTool, function_tool, tool
from power_loop.tools.signature import read_signature
from power_loop.tools.toolbox import ToolRegistry

# --- definitions -----------------------------------------------------------------------------------------------


@tool
def weather(city: str, days: Annotated[int, "how far ahead"] = 1) -> str:
    """Forecast the weather.

    Args:
        city: Where.
        days: Not read, since the annotation says it.
    """
    return f"{city} {days}"


def plain(city: str) -> str:
    """Say where."""
    return city


async def later(city: str) -> str:
    """Say where, later."""
    return city


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    def sell(self, article: str) -> str:
        """Sell an article."""
        return f"{self.name} sells {article}"

    @tool(effects="idempotent")
    async def order(self, run: ToolRun, article: str) -> str:
        """Order an article."""
        return f"{self.name} orders {article} ({run.call_id})"


class Office:
    @staticmethod
    @tool
    def open_at(hour: int) -> int:
        return hour

    @classmethod
    @tool
    def found(cls, name: str) -> str:
        return f"{cls.__name__} {name}"


class Adder:
    """Adds, always the same."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, number: int) -> int:
        """Add to a number."""
        return self.amount + number


class AsyncAdder(Adder):
    async def __call__(self, number: int) -> int:
        return self.amount + number


def schema_of(function: Any) -> dict[str, Any]:
    return dict(function_tool(function).definition.input_schema)


def property_of(annotation: Any) -> Any:
    def function(it: Any) -> None: ...

    function.__annotations__["it"] = annotation
    return schema_of(function)["properties"]["it"]


# acceptance: 116
def test_a_definition_follows_signature_and_docstring() -> None:
    definition = weather.definition
    assert (definition.name, definition.description) == ("weather", "Forecast the weather.")
    assert definition.input_schema == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "integer", "description": "how far ahead", "default": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert definition.to_openai_tool()["function"]["parameters"] == definition.input_schema


# acceptance: 116
async def test_functions_methods_partials_and_objects_become_tools() -> None:
    shop = Shop("corner")
    registry = ToolRegistry([plain, later, weather, shop.sell, shop.order, Office.open_at, Office.found])
    assert registry.names() == ["plain", "later", "weather", "sell", "order", "open_at", "found"]
    assert [name for name in registry.names() if registry.get(name).is_async] == ["later", "order"]
    assert await registry.invoke_async("later", {"city": "Rome"}) == "Rome"
    assert registry.invoke("sell", {"article": "tea"}) == "corner sells tea"
    assert await registry.invoke_async("order", {"article": "tea"}, run=ToolRun(call_id="c1")) == "corner orders tea (c1)"
    assert registry.invoke("open_at", {"hour": 9}) == 9
    assert registry.invoke("found", {"name": "A"}) == "Office A"
    adders = ToolRegistry([Adder(2), function_tool(AsyncAdder(3), name="async_adder")])
    assert adders.get("Adder").definition.description == "Add to a number."
    assert adders.invoke("Adder", {"number": 1}) == 3
    assert await adders.invoke_async("async_adder", {"number": 1}) == 4


# acceptance: 116
def test_a_default_that_json_has_not_is_not_sent_to_the_model() -> None:
    def wait(seconds: float = math.inf, at_most: float = math.nan, at_least: float = 0.5) -> str:
        """Wait."""
        return f"{seconds} {at_most} {at_least}"

    properties = schema_of(wait)["properties"]
    assert properties == {"seconds": NUMBER, "at_most": NUMBER, "at_least": {**NUMBER, "default": 0.5}}

    def wait_as(span: Span) -> str:
        """Wait."""
        return str(span)

    assert "default" not in schema_of(wait_as)["properties"]["span"]["properties"]["at_most"]


def test_the_options_of_the_decorator_are_those_of_the_definition() -> None:
    @tool(name="pay", description="Pay.", effects="once", parallel=False, timeout_s=3, needs_approval=True, retries=2)
    def refund(order: int) -> None:
        """Not read."""

    definition = refund.definition
    assert (definition.name, definition.description, definition.effects, definition.parallel) == ("pay", "Pay.", "once", False)
    assert (definition.timeout_s, definition.needs_approval, definition.retries) == (3, True, 2)
    assert weather.definition.parallel is True


def test_a_decorated_function_stays_what_it_was() -> None:
    assert weather("Rome") == "Rome 1"
    assert weather.__name__ == "weather"
    assert weather.__doc__ is not None
    assert list(inspect.signature(weather).parameters) == ["city", "days"]
    assert inspect.isfunction(weather.__wrapped__)
    assert isinstance(weather, FunctionTool)


def test_a_method_is_the_tool_of_its_instance() -> None:
    one, two = Shop("one"), Shop("two")
    assert "self" not in one.order.definition.input_schema["properties"]
    assert inspect.iscoroutinefunction(one.order.__wrapped__)
    assert one.order.definition is two.order.definition
    for unbound in (Shop.order, Shop.sell):
        with pytest.raises(TypeError, match="is a method"):
            ToolRegistry([unbound])


def test_the_decorator_stands_next_to_the_function() -> None:
    with pytest.raises(TypeError, match="below @staticmethod"):
        tool(staticmethod(plain))


def test_what_a_partial_has_filled_in_is_hidden_from_the_model() -> None:
    def fetch(url: str, key: str, limit: int = 5) -> str:
        """Fetch."""
        return f"{url} {key} {limit}"

    registry = ToolRegistry([functools.partial(functools.partial(fetch, limit=9), key="secret")])
    (offered,) = registry.to_openai_tools()
    assert list(offered["function"]["parameters"]["properties"]) == ["url"]
    assert "secret" not in json.dumps(offered)
    assert registry.invoke("fetch", {"url": "u"}) == "u secret 9"
    assert registry.validate("fetch", {"url": "u", "key": "mine"}) == "/key: is not allowed here; known are: url"


# --- parameters --------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    TRUE = True
    NONE = None


@dataclass
class Item:
    """One line of an order.

    Args:
        sku: The article.
    """

    sku: str
    colour: Colour = Colour.RED
    parts: list[Item] = field(default_factory=list)
    number: int = field(default=0, init=False)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Address(TypedDict):
    city: Annotated[str, "the town"]
    zip: NotRequired[int]
    at: NotRequired[Point]


class Loose(TypedDict, total=False):
    a: Required[int]
    b: str


class Node(pydantic.BaseModel):
    value: int
    children: list[Node] = []


class Span(pydantic.BaseModel):
    at_most: float = math.inf


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        if number % 2:
            raise ValueError("must be even")
        return number


UserId = NewType("UserId", int)
OrderId = NewType("OrderId", int)
INTEGER, STRING, NUMBER = {"type": "integer"}, {"type": "string"}, {"type": "number"}
TWO = {"minItems": 2, "maxItems": 2}
COLOUR = {"type": "string", "enum": ["red", "blue"]}
POINT = {"type": "object", "properties": {"x": INTEGER, "y": INTEGER}, "required": ["x", "y"], "additionalProperties": False}
LOOSE = {"type": "object", "properties": {"a": INTEGER, "b": STRING}, "required": ["a"], "additionalProperties": False}
ADDRESS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "the town"}, "zip": INTEGER, "at": POINT},
    "required": ["city"],
    "additionalProperties": False,
}
EVEN = {"type": "object", "title": "Even", "properties": {"number": {"type": "integer", "title": "Number"}}, "required": ["number"]}


# acceptance: 117
@pytest.mark.parametrize(
    ("annotation", "schema", "pairs"),
    [
        (str, STRING, [("a", "a")]),
        (int, INTEGER, [(3, 3), (3.0, 3)]),
        (float, {"type": "number"}, [(3, 3), (0.5, 0.5)]),
        (bool, {"type": "boolean"}, [(True, True)]),
        (None, {"type": "null"}, [(None, None)]),
        (Any, {}, [({"a": [1]}, {"a": [1]})]),
        (UserId, INTEGER, [(7, 7)]),
        (Optional[int], {"type": ["integer", "null"]}, [(None, None), (2.0, 2)]),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}, [("2", "2"), (2, 2)]),
        (UserId | OrderId, INTEGER, [(7.0, 7)]),
        (Annotated[int | str, ...] | None, {"type": ["integer", "string", "null"]}, [(2.0, 2), ("2", "2"), (None, None)]),
        (list[int], {"type": "array", "items": INTEGER}, [([1.0, 2], [1, 2])]),
        (list, {"type": "array"}, [([1], [1])]),
        (Sequence[str], {"type": "array", "items": STRING}, [(["a"], ["a"])]),
        (set[str], {"type": "array", "uniqueItems": True, "items": STRING}, [(["a"], {"a"})]),
        (frozenset, {"type": "array", "uniqueItems": True}, [([1], frozenset({1}))]),
        (tuple, {"type": "array"}, [([1], (1,))]),
        (tuple[int, ...], {"type": "array", "items": INTEGER}, [([1, 2], (1, 2))]),
        (tuple[int, Colour], {"type": "array", "prefixItems": [INTEGER, COLOUR], **TWO}, [([1, "red"], (1, Colour.RED))]),
        (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}, [([], ())]),
        (dict, {"type": "object"}, [({"a": 1}, {"a": 1})]),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}, [({"a": 1.0}, {"a": 1})]),
        (Mapping[Colour, Any], {"type": "object", "propertyNames": COLOUR}, [({"red": 1}, {Colour.RED: 1})]),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, [("a", "a")]),
        (Literal[1, "a", None], {"type": ["integer", "string", "null"], "enum": [1, "a", None]}, [(1.0, 1), (None, None)]),
        (Literal[1, True], {"type": ["integer", "boolean"], "enum": [1, True]}, [(1, 1), (True, True)]),
        (Literal[Colour.RED], {"type": "string", "enum": ["red"]}, [("red", Colour.RED)]),
        (Colour, COLOUR, [("blue", Colour.BLUE)]),
        (Level, {"type": "integer", "enum": [1, 2]}, [(2, Level.HIGH)]),
        (Mixed, {"type": ["integer", "null"], "enum": [1, None]}, [(1, Mixed.ONE)]),
        (Colour | Point, {"anyOf": [COLOUR, POINT]}, [("red", Colour.RED), ({"x": 1, "y": 2}, Point(1, 2))]),
        (Loose, LOOSE, [({"a": 1}, {"a": 1})]),
        (Address, ADDRESS, [({"city": "a", "at": {"x": 1, "y": 2}}, {"city": "a", "at": Point(1, 2)})]),
        (Annotated[int, pydantic.Field(gt=3)], {"type": "integer", "exclusiveMinimum": 3}, [(4, 4)]),
        (Even, EVEN, [({"number": 2}, Even(number=2))]),
    ],
    ids=str,
)  # fmt: skip
def test_an_annotation_becomes_a_schema_and_its_values_instances(annotation: Any, schema: Any, pairs: list[tuple[Any, Any]]) -> None:
    assert property_of(annotation) == schema
    seen: list[Any] = []

    def take(it: Any) -> None:
        seen.append(it)

    take.__annotations__["it"] = annotation
    registry = ToolRegistry([take])
    for value, _ in pairs:
        registry.invoke("take", {"it": value})
    assert seen == [instance for _, instance in pairs]
    assert [type(each) for each in seen] == [type(instance) for _, instance in pairs]


# acceptance: 117
def test_recursive_classes_are_described_once_and_built_to_the_bottom() -> None:
    def take(items: list[Item], node: Node | None = None) -> Any:
        """Take.

        Args:
            items: The lines.
        """
        return items, node

    schema = schema_of(take)
    assert schema["properties"]["items"] == {"type": "array", "items": {"$ref": "#/$defs/Item"}, "description": "The lines."}
    assert schema["$defs"]["Item"]["description"] == "One line of an order."
    assert schema["$defs"]["Item"]["properties"]["sku"] == {"type": "string", "description": "The article."}
    assert list(schema["$defs"]["Item"]["properties"]) == ["sku", "colour", "parts"]
    registry = ToolRegistry([take])
    arguments = {"items": [{"sku": "a", "parts": [{"sku": "b", "colour": "blue"}]}], "node": {"value": 1, "children": [{"value": 2}]}}
    assert registry.invoke("take", arguments) == (
        [Item("a", parts=[Item("b", Colour.BLUE)])],
        Node(value=1, children=[Node(value=2)]),
    )
    wrong = {"items": [{"sku": "a", "parts": [{"sku": 3}]}], "node": {"value": 1, "children": [{"value": "2"}]}}
    assert registry.validate("take", wrong) == (
        '/items/0/parts/0/sku: must be a string, not 3\n/node/children/0/value: must be an integer, not "2"'
    )


def test_classes_of_one_name_are_kept_apart() -> None:
    def make(kind: type) -> Any:
        return pydantic.create_model("Box", inner=(pydantic.create_model("Inner", it=(kind, ...)), ...))

    def take(a: Any, b: Any) -> Any:
        return a, b

    take.__annotations__ |= {"a": make(int), "b": make(str)}
    registry = ToolRegistry([take])
    assert registry.validate("take", {"a": {"inner": {"it": 1}}, "b": {"inner": {"it": "x"}}}) is None
    assert registry.validate("take", {"a": {"inner": {"it": 1}}, "b": {"inner": {"it": 1}}}) == "/b/inner/it: must be a string, not 1"


def test_objects_that_we_describe_are_closed_and_strict_closes_those_of_pydantic() -> None:
    def take(even: Even, nodes: list[Node] | None = None) -> None: ...

    assert ToolRegistry([take]).validate("take", {"even": {"number": 2, "more": 1}}) is None
    strict = ToolRegistry([tool(strict=True)(take)])
    assert strict.validate("take", {"even": {"number": 2, "more": 1}}) == "/even/more: is not allowed here; known are: number"
    assert "/nodes/0/more" in str(strict.validate("take", {"even": {"number": 2}, "nodes": [{"value": 1, "more": 1}]}))


def test_a_value_that_its_class_refuses_is_told_with_its_path_and_the_handler_is_not_called() -> None:
    called: list[Even] = []

    def take(even: Even) -> None:
        called.append(even)

    with pytest.raises(ToolValidationError, match="take: /even/number: Value error, must be even"):
        ToolRegistry([take]).invoke("take", {"even": {"number": 3}})
    assert called == []


def test_pydantic_is_never_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic")
    assert property_of(list[Item])["items"] == {"$ref": "#/$defs/Item"}
    with pytest.raises(TypeError, match=r"power-loop\[pydantic\]"):
        property_of(Even)


# --- what cannot be a tool ---------------------------------------------------------------------------------------


class Opaque:
    pass


class Wide(Enum):
    AREA = (1, 2)


class Endless(Enum):
    FOREVER = math.inf


@dataclass
class Holder:
    what: Opaque


def unannotated(city, days: int) -> None: ...  # type: ignore[no-untyped-def]  # that is the point
def variadic(*cities: str) -> None: ...
def keywords(**more: str) -> None: ...
def by_place(city: str, /) -> None: ...
def late_run(city: str, run: ToolRun) -> None: ...
def opaque(what: Opaque) -> None: ...
def holder(it: list[Holder]) -> None: ...
def number_keys(it: dict[int, str]) -> None: ...
def wide(it: Wide) -> None: ...
def endless(it: Endless) -> None: ...
def unknown_name(it: NoSuchClass) -> None: ...  # type: ignore[name-defined]  # noqa: F821  that is the point
def generic(it: type[int]) -> None: ...


# acceptance: 117 (refused by name)
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (unannotated, "parameter 'city': it has no annotation"),
        (variadic, "parameter 'cities': it is variadic positional"),
        (keywords, "parameter 'more': it is variadic keyword"),
        (by_place, "parameter 'city': it is positional-only"),
        (late_run, "parameter 'run': ToolRun is handed to the first parameter only"),
        (opaque, "parameter 'what': .*Opaque.* has no JSON form"),
        (holder, "parameter 'it': Holder.what: .*Opaque.* has no JSON form"),
        (number_keys, "parameter 'it': a dict has text for keys"),
        (wide, "parameter 'it': a choice takes text"),
        (endless, "parameter 'it': a choice takes text.*not inf"),
        (unknown_name, "annotation 'NoSuchClass' of parameter 'it' cannot be read"),
        (generic, "parameter 'it': .*has no JSON form"),
    ],
)
def test_a_parameter_that_the_model_cannot_fill_is_refused_at_definition(function: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        tool(function)


def yields(city: str) -> Iterator[str]:
    yield city


async def yields_later(city: str) -> AsyncIterator[str]:
    yield city


class Yields:
    """Look it up."""

    def __call__(self, city: str) -> Iterator[str]:
        yield city


@pytest.mark.parametrize("function", [yields, yields_later, functools.partial(yields), Yields()])
def test_a_function_of_which_calling_runs_nothing_is_refused_at_definition(function: Any) -> None:
    with pytest.raises(TypeError, match=r"yields: calling it runs nothing of it.* run\.progress\(\)"):
        function_tool(function, name="look_up")


def test_a_return_annotation_that_only_type_checkers_know_harms_nothing() -> None:
    def take(city: str) -> NoSuchClass: ...  # type: ignore[name-defined]  # noqa: F821  that is the point

    assert schema_of(take)["required"] == ["city"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when they are asked for since 3.14")
def test_names_that_only_type_checkers_know_harm_nothing_where_annotations_are_lazy() -> None:
    names: dict[str, Any] = {"__name__": "elsewhere"}
    exec("def take(city: str) -> NoSuchClass: ...\ndef guess(what: NoSuchClass): ...\ndef run(where: ToolRun, args): ...", names)
    assert schema_of(names["take"])["required"] == ["city"]
    with pytest.raises(TypeError, match="of parameter 'what' cannot be read"):
        tool(names["guess"])
    assert read_signature(names["run"]).takes_run


def test_a_tool_inside_a_partial_is_still_known() -> None:
    registry = ToolRegistry([functools.partial(weather, days=3), function_tool(functools.lru_cache(plain), name="cached")])
    assert [each.description for each in registry.definitions()] == ["Forecast the weather.", "Say where."]
    assert registry.invoke("weather", {"city": "Rome"}) == "Rome 3"


async def test_a_wrapper_decides_itself_whether_it_is_async() -> None:
    @functools.wraps(later)
    def in_a_loop_of_its_own(city: str) -> str:
        return f"sync {city}"

    registry = ToolRegistry([in_a_loop_of_its_own])
    assert not registry.get("later").is_async
    assert await registry.invoke_async("later", {"city": "Rome"}) == "sync Rome"


def test_a_function_without_a_usable_name_needs_one() -> None:
    with pytest.raises(ValueError, match="<lambda>"):
        tool(lambda: "x")
    assert tool(name="nothing")(lambda: "x").definition.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
