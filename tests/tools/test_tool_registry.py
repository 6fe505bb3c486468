"""The registry: names, what it refuses, what it tells, and that reading it never waits for a change."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from power_loop.contracts.errors import AsyncToolInSyncContext, ToolNotFound, ToolValidationError
from power_loop.contracts.tool import ToolDefinition
from power_loop.tools.define import tool
from power_loop.tools.toolbox import ToolRegistry, build_registry

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def double(n: int) -> int:
    """Twice as much."""
    return 2 * n


async def triple(n: int) -> int:
    return 3 * n


def awaitable(n: int) -> Any:
    return triple(n)


def wrong(n: int) -> Any:
    raise KeyError(n)


def definition(name: str = "double", schema: Any = NUMBER, **more: Any) -> ToolDefinition:
    return ToolDefinition(name, "Twice.", schema, **more)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, "a\n", 3, None])
def test_a_name_that_providers_refuse_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot be a tool's name"):
        ToolRegistry().register(definition(name), double)
    ToolRegistry().register(definition("A-b_9" + "x" * 59), double)


@pytest.mark.parametrize("effects", ["Once", "none", ""])
def test_a_slip_in_the_effects_makes_no_call_repeatable(effects: Any) -> None:
    with pytest.raises(ValueError, match="must be 'pure', 'idempotent' or 'once'"):
        ToolRegistry().register(definition(effects=effects), double)
    with pytest.raises(ValueError, match="must be 'pure'"):
        ToolRegistry([tool(effects=effects)(double)])


@pytest.mark.parametrize(
    ("setting", "nonsense"),
    [
        *[("timeout_s", value) for value in (0, -1, "5", True, float("nan"))],
        *[("retries", value) for value in (-1, 1.5, "x", None)],
        *[("reconcile", 5), ("project", "line"), ("parallel", "no")],
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(setting: str, nonsense: Any) -> None:
    with pytest.raises(ValueError, match=rf"{setting} of tool 'double' is "):
        ToolRegistry().register(definition(**{setting: nonsense}), double)


def test_a_name_is_taken_once() -> None:
    registry = ToolRegistry([double])
    with pytest.raises(ValueError, match="'double' is registered already"):
        registry.register(definition(), triple)
    with pytest.raises(ValueError, match="registered already"):
        registry.add(triple, double)
    assert registry.names() == ["double"], "nothing of a refused addition stays"
    registry.register(definition(), triple, overwrite=True)
    assert registry.get("double").handler is triple


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array"}, "the type 'array'"),
        ({"type": "object", "required": "n"}, "malformed at /required"),
        ({"properties": {"n": {"type": "int"}}}, "malformed at /properties/n/type"),
        ({"properties": {"n": {"$ref": "https://example.org/n"}}}, "'https://example.org/n'"),
        ([], "must be an object"),
    ],
)
def test_a_schema_that_cannot_be_validated_is_refused_at_registration(schema: Any, said: str) -> None:
    for put in (lambda tool: ToolRegistry().register(tool, double), lambda tool: ToolRegistry([(tool, double)])):
        with pytest.raises(ValueError, match=said):
            put(definition(schema=schema))


def test_what_is_no_tool_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match="has no handler"):
        ToolRegistry([definition()])
    with pytest.raises(TypeError, match="is no tool"):
        ToolRegistry(["double"])


# acceptance: 40 (registry)
def test_every_violation_is_told_and_the_handler_is_not_called() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "at": {"properties": {"x": {"type": "number"}}}},
        "additionalProperties": False,
    }
    registry = ToolRegistry([(definition(schema=schema, required_params=("n", "who")), lambda args: wrong(1))])
    assert registry.validate("double", {"n": "1", "at": {"x": "far"}, "more": 1}) == "\n".join(
        [
            '/n: must be an integer, not "1"',
            '/at/x: must be a number, not "far"',
            "/more: is not allowed here; known are: n, at",
            "/who: is required, and missing",
        ]
    )
    with pytest.raises(ToolValidationError, match="/who: is required"):
        registry.invoke("double", {"n": 1})
    assert registry.get("double").definition.parameters()["required"] == ["n", "who"]


# acceptance: 41 (registry)
def test_an_unknown_tool_is_told_with_those_that_there_are() -> None:
    registry = ToolRegistry([double, triple])
    assert registry.get("none") is None
    assert not registry.has("none")
    for ask in (lambda: registry.validate("none", {}), lambda: registry.subset(["double", "none"]), lambda: registry.unregister("none")):
        with pytest.raises(ToolNotFound, match="'none' is registered; registered: double, triple"):
            ask()


def test_a_subset_holds_these_tools_only() -> None:
    registry = ToolRegistry([double, triple])
    part = registry.subset(["triple"])
    assert part.names() == ["triple"]
    assert part.get("triple") is registry.get("triple")
    part.unregister("triple")
    assert registry.has("triple")
    assert [each.name for each in registry.definitions()] == ["double", "triple"]
    assert "double" in registry
    assert (len(registry), len(part)) == (2, 0)


def test_what_is_offered_is_sorted_and_the_same_object_until_it_changes() -> None:
    registry = ToolRegistry([triple, double])
    offered = registry.to_openai_tools()
    assert [each["function"]["name"] for each in offered] == ["double", "triple"]
    assert registry.to_openai_tools() is offered
    registry.unregister("triple")
    assert [each["function"]["name"] for each in registry.to_openai_tools()] == ["double"]


async def test_tools_can_be_called_by_hand() -> None:
    registry = ToolRegistry([double, triple, awaitable, wrong])
    assert registry.invoke("double", {"n": 2}) == 4
    assert [await registry.invoke_async(name, {"n": 2}) for name in ("double", "triple", "awaitable")] == [4, 6, 6]
    for name in ("triple", "awaitable"):
        with pytest.raises(AsyncToolInSyncContext, match="await invoke_async"):
            registry.invoke(name, {"n": 2})
    with pytest.raises(KeyError):
        registry.invoke("wrong", {"n": 2})
    with pytest.raises(ToolValidationError):
        await registry.invoke_async("double", {})


def test_definitions_and_handlers_that_stand_apart_are_joined_by_name() -> None:
    registry = build_registry([definition("a"), definition("b")], {"a": double, "b": triple, "c": wrong})
    assert registry.names() == ["a", "b"]
    with pytest.raises(ValueError, match="no handler for 'b'"):
        build_registry([definition("b")], {"a": double})


def test_a_definition_runs_side_by_side_only_when_it_is_pure() -> None:
    registry = ToolRegistry(
        [double, (definition("a"), double), (definition("b", effects="pure"), double), (definition("c", parallel=True), double)]
    )
    assert {each.name: each.parallel for each in registry.definitions()} == {"double": True, "a": False, "b": True, "c": True}


def test_readers_see_whole_tables_while_other_threads_register() -> None:
    registry = ToolRegistry([double])
    failures: list[str] = []

    def register(letter: str) -> None:
        for number in range(100):
            registry.register(definition(f"{letter}{number}"), double)
            names = {tool["function"]["name"] for tool in registry.to_openai_tools()}
            if f"{letter}{number}" not in names or "double" not in names:
                failures.append(f"{letter}{number}")

    threads = [threading.Thread(target=register, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(registry) == 301


def test_a_tool_that_nobody_calls_costs_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr("power_loop.tools.bound.compile_schema", compiled.append)
    ToolRegistry([double]).to_openai_tools()
    assert compiled == []


def test_registering_needs_no_event_loop() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert ToolRegistry([triple]).get("triple").is_async
