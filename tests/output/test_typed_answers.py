"""`output_type=`: what is asked of the model, and what value the caller gets."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import pydantic
import pytest

from power_loop import AgentHooks, AgentLoopConfig, HookDirective, LLMResponse, StatefulAgentLoop, StructuredOutputSpec, Worker
from power_loop.testing import ScriptedLLM, call, say


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Settings:
    name: str
    default: dict[str, int]


@dataclass
class Mayor:
    name: str


@dataclass
class City:
    """A city of the world."""

    name: str
    people: Annotated[int, "in millions"]
    mayor: Mayor | None = None
    colours: list[Colour] = field(default_factory=list)


class Place(TypedDict, total=False):
    name: str
    at: tuple[float, float]


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(gt=0)
    items: list[str] = []


@dataclass
class Tree:
    label: str
    parts: list[Tree]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SPEC = StructuredOutputSpec("number", SCHEMA)
BY_REFERENCE = {"$defs": {"n": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/n"}}
NESTED = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]}


async def answered(text: str, **parameters: Any) -> tuple[Any, dict[str, Any]]:
    """(the outcome of a send that the model answers with ``text``, the schema that it was asked for)."""
    llm = ScriptedLLM([say(text)])
    async with StatefulAgentLoop(llm=llm, dsn=":memory:") as loop:
        result = await loop.run("go", **parameters)
    assert result.status == "completed", result.error
    assert result.final_text == text
    return result, (llm.requests[0].response_format or {}).get("json_schema", {})


# acceptance: 147
@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (City, '{"name": "Rome", "people": 3}', City("Rome", 3)),
        (
            City,
            '{"name": "Rome", "people": 3, "mayor": {"name": "R"}, "colours": ["red"]}',
            City("Rome", 3, Mayor("R"), [Colour.RED]),
        ),
        (Place, '{"name": "Rome", "at": [41.9, 12.5]}', {"name": "Rome", "at": (41.9, 12.5)}),
        (Order, '{"number": 7, "items": ["a"]}', Order(number=7, items=["a"])),
        (Tree, '{"label": "a", "parts": [{"label": "b", "parts": []}]}', Tree("a", [Tree("b", [])])),
        (list[City], '{"value": [{"name": "Rome", "people": 3}]}', [City("Rome", 3)]),
        (list[str], '{"value": ["a", "b"]}', ["a", "b"]),
        (tuple[int, str], '{"value": [1, "a"]}', (1, "a")),
        (Colour, '{"value": "blue"}', Colour.BLUE),
        (Literal["yes", "no"], '{"value": "no"}', "no"),
        (int, '{"value": 3.0}', 3),
        (float, '{"value": 3.5}', 3.5),
        (bool, '{"value": true}', True),
        (City | Order, '{"value": {"number": 7}}', Order(number=7)),
        (int | None, '{"value": null}', None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (SCHEMA, '{"n": 1, "more": true}', {"n": 1, "more": True}),
        (SPEC, '{"n": 1}', {"n": 1}),
        (SPEC.to_openai_response_format(), '{"n": 1}', {"n": 1}),
        (BY_REFERENCE, '{"value": [1, 2]}', [1, 2]),
        (NESTED, '{"value": [1, [2, [3]]]}', [1, [2, [3]]]),
        ({"enum": ["a", "b"]}, '{"value": "a"}', "a"),
    ],
    ids=str,
)
async def test_the_output_is_a_value_of_the_type_that_was_asked_for(wanted: Any, text: str, value: Any) -> None:
    result, asked = await answered(text, output_type=wanted)
    assert result.output == value
    assert type(result.output) is type(value)
    assert asked["schema"]["type"] == "object", "providers take objects only"


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (list[str], '["a", "b"]', ["a", "b"]),
        (list[City], '```json\n[{"name": "Rome", "people": 3}]\n```', [City("Rome", 3)]),
        (int, "3", 3),
        (Colour, 'Of course:\n```\n"red"\n```', Colour.RED),
    ],
    ids=str,
)
async def test_a_value_without_the_object_around_it_is_taken_as_well(wanted: Any, text: str, value: Any) -> None:
    assert (await answered(text, output_type=wanted))[0].output == value


async def test_a_union_the_other_way_round_is_another_type() -> None:
    @dataclass
    class One:
        name: str

    @dataclass
    class Other:
        name: str

    for union, first in ((One | Other, One), (Other | One, Other)):
        alone, _ = await answered('{"value": {"name": "x"}}', output_type=union)
        several, _ = await answered('{"value": [{"name": "x"}]}', output_type=list[union])
        assert (alone.output, several.output) == (first("x"), [first("x")])


async def test_the_schema_tells_what_the_type_tells() -> None:
    _, asked = await answered('{"name": "Rome", "people": 3}', output_type=City)
    assert asked["name"] == "City"
    schema = asked["schema"]
    assert schema["description"] == "A city of the world."
    assert schema["properties"]["people"] == {"type": "integer", "description": "in millions"}
    assert schema["required"] == ["name", "people"]


@pytest.mark.parametrize(
    ("wanted", "text", "strict"),
    [
        (Mayor, '{"name": "R"}', True),
        (list[Mayor], '{"value": []}', True),
        (City, '{"name": "R", "people": 1}', False),
        (SCHEMA, '{"n": 1}', False),
        (SPEC, '{"n": 1}', True),
        (dict[str, int], "{}", False),
        (Settings, '{"name": "R", "default": {}}', False),
    ],
    ids=str,
)
async def test_a_schema_is_strict_where_providers_would_take_it_so(wanted: Any, text: str, strict: bool) -> None:
    assert (await answered(text, output_type=wanted))[1]["strict"] is strict


async def test_a_member_that_is_called_like_a_keyword_is_a_schema_as_any_other() -> None:
    members = {"default": {"$ref": "#/items/properties/n"}, "n": {"type": "integer"}}
    wanted = {"type": "array", "items": {"type": "object", "properties": members}}
    result, asked = await answered('{"value": [{"default": 1, "n": 2}]}', output_type=wanted)
    assert result.output == [{"default": 1, "n": 2}]
    moved = asked["schema"]["properties"]["value"]["items"]["properties"]["default"]
    assert moved == {"$ref": "#/properties/value/items/properties/n"}


async def test_text_is_asked_for_as_text() -> None:
    result, asked = await answered("Just words.", output_type=str)
    assert (result.output, asked) == ("Just words.", {})


async def test_nothing_is_asked_for_by_default() -> None:
    result, asked = await answered('{"n": 1}')
    assert (result.output, asked) == (None, {})


# --- where it is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["output_type", "response_format"])
@pytest.mark.parametrize("wanted", [Mayor, SPEC, SCHEMA, list[int]], ids=str)
async def test_the_configuration_asks_for_every_send_and_a_type_as_response_format_is_the_same(setting: str, wanted: Any) -> None:
    llm = ScriptedLLM([say('{"name": "R", "n": 1, "value": [1]}')] * 2, strict=False)
    if wanted is Mayor:
        llm = ScriptedLLM([say('{"name": "R"}')] * 2)
    if wanted == list[int]:
        llm = ScriptedLLM([say('{"value": [1]}')] * 2)
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=AgentLoopConfig(**{setting: wanted})) as loop:
        session = await loop.new_session()
        for _ in range(2):
            result = await loop.send("go", session)
            assert result.output is not None
    assert llm.requests[1].response_format["type"] == "json_schema"


@pytest.mark.parametrize("given", [{"type": "json_object"}, SPEC.to_openai_response_format(), {"type": "grammar", "syntax": "x"}], ids=str)
async def test_a_response_format_in_the_providers_words_is_handed_on_and_the_reply_not_read(given: dict[str, Any]) -> None:
    llm = ScriptedLLM([say("no JSON at all")])
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=AgentLoopConfig(response_format=given)) as loop:
        result = await loop.run("go")
    assert llm.requests[0].response_format == given
    assert (result.status, result.output) == ("completed", None)


# acceptance: 74 (a send)
async def test_what_a_call_asks_for_comes_before_the_configuration_and_holds_for_that_send_only() -> None:
    llm = ScriptedLLM([say('{"n": 1}'), say('{"name": "R"}')])
    config = AgentLoopConfig(output_type=Mayor)
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=config) as loop:
        session = await loop.new_session()
        assert (await loop.send("go", session, output_type=SPEC)).output == {"n": 1}
        assert (await loop.send("go", session)).output == Mayor("R")
    names = [request.response_format["json_schema"]["name"] for request in llm.requests]
    assert names == ["number", "Mayor"]


async def test_every_way_to_send_takes_it() -> None:
    llm = ScriptedLLM([say('{"name": "R"}')] * 2)
    async with StatefulAgentLoop(llm=llm, dsn=":memory:") as loop:
        assert (await loop.run("go", output_type=Mayor)).output == Mayor("R")
        session = await loop.new_session()
        events = [event async for event in loop.stream("go", session, output_type=Mayor)]
        assert events[-1].result.output == Mayor("R")
        assert events[-1].payload["output"] == Mayor("R")


def test_and_so_does_the_blocking_one() -> None:
    loop = StatefulAgentLoop(llm=ScriptedLLM([say('{"name": "R"}')]), dsn=":memory:")
    assert loop.send_sync("go", loop.new_session_sync(), output_type=Mayor).output == Mayor("R")
    loop.close()


# --- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        ({"type": "objekt"}, ValueError, "malformed at /type"),
        ({"type": "object", "properties": {"a": {"minimum": "1"}}}, ValueError, "malformed at /properties/a/minimum"),
        pytest.param(object(), TypeError, "output_type= takes a type, a JSON Schema or a StructuredOutputSpec", id="an object"),
        (len, TypeError, "output_type= takes a type"),
        (complex, TypeError, "has no JSON form known here"),
        ("City", TypeError, "output_type= takes a type"),
        ([], TypeError, "output_type= takes a type"),
    ],
    ids=str,
)
async def test_what_has_no_form_is_refused_before_anything_is_written(wanted: Any, error: type[Exception], says: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([]), dsn=":memory:") as loop:
        session = await loop.new_session()
        with pytest.raises(error, match=says):
            await loop.send("go", session, output_type=wanted)
        assert await loop.get_messages(session) == []


@pytest.mark.parametrize("given", [3, "validator", [3], lambda value: value])
def test_validators_are_callables_in_a_sequence(given: Any) -> None:
    with pytest.raises(ValueError, match="output_validators"):
        AgentLoopConfig(output_validators=given)
    config = AgentLoopConfig(output_validators=(len,))
    with pytest.raises(ValueError, match="output_validators"):
        config.output_validators = given
    assert config.output_validators == (len,)


# --- beside tools --------------------------------------------------------------------------------


async def test_tools_stay_on_offer_and_only_the_last_reply_is_the_answer() -> None:
    def look(city: str) -> str:
        """Look."""
        return f"{city}: 3 million"

    llm = ScriptedLLM([call("look", city="Rome"), say('{"name": "R"}')])
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", tools=[look]) as loop:
        result = await loop.run("go", output_type=Mayor)
    assert (result.output, result.rounds, result.tool_calls) == (Mayor("R"), 2, 1)
    assert all(request.tools and request.response_format for request in llm.requests)


async def test_a_reply_that_a_handler_gives_is_read_like_any_other() -> None:
    hooks = AgentHooks()

    def instead(ctx: Any) -> HookDirective:
        ctx.output = LLMResponse(content_text='{"name": "H"}')
        return HookDirective.SHORT_CIRCUIT

    hooks.register("llm.before", instead)
    async with StatefulAgentLoop(llm=ScriptedLLM([]), dsn=":memory:", hooks=hooks) as loop:
        assert (await loop.run("go", output_type=Mayor)).output == Mayor("H")


async def test_a_send_that_a_handler_ends_gives_the_value_if_there_is_one() -> None:
    hooks = AgentHooks()
    hooks.register("llm.after", lambda ctx: HookDirective.BREAK)
    async with StatefulAgentLoop(llm=ScriptedLLM([say('{"name": "R"}'), say("nothing yet")]), dsn=":memory:", hooks=hooks) as loop:
        assert (await loop.run("go", output_type=Mayor)).output == Mayor("R")
        result = await loop.run("go", output_type=Mayor)
        assert (result.status, result.output) == ("completed", None)


async def test_the_summary_of_a_send_that_ran_out_of_rounds_is_told_in_words() -> None:
    def look() -> str:
        """Look."""
        return "fog"

    llm = ScriptedLLM([call("look"), say("I looked and saw nothing.")])
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", tools=[look]) as loop:
        result = await loop.run("go", output_type=Mayor, max_rounds=1)
    assert (result.status, result.output) == ("hit_round_limit", None)
    assert llm.requests[1].response_format is None


async def test_what_is_asked_for_is_stored_with_the_send_and_costs_nothing_else() -> None:
    llm = ScriptedLLM([say('{"name": "R"}')])
    async with StatefulAgentLoop(llm=llm, dsn=":memory:") as loop:
        result = await loop.run("go", output_type=Mayor)
        store = await loop.ensure_store()
        rows = await store.rows(result.session_id, after=0)
    assert json.loads(rows[0].cells.body)["overrides"]["output"]["name"] == "Mayor"
    assert [row.cells.kind for row in rows] == ["user_said", "model_replied", "send_ended"]


async def test_the_configured_form_holds_for_words_that_nobody_waits_for() -> None:
    seen: list[Any] = []
    config = AgentLoopConfig(output_type=Mayor, output_validators=(lambda mayor: seen.append(mayor),))
    async with StatefulAgentLoop(llm=ScriptedLLM([say("?"), say('{"name": "R"}')]), dsn=":memory:", config=config) as loop:
        session = await loop.new_session()
        await loop.enqueue("go", session)
        await Worker(loop).run_once()
        rows = await loop.get_messages(session)
    assert seen == [Mayor("R")]
    assert [row.get("name") for row in rows if row["role"] == "user"] == ["follow_up", "schema"]


async def test_a_handler_sees_what_is_asked_for_and_why_and_may_change_it() -> None:
    hooks = AgentHooks()
    seen: list[Any] = []

    def look(ctx: Any) -> None:
        seen.append((ctx.purpose, ctx.response_format["type"]))
        ctx.response_format = None

    hooks.register("llm.before", look)
    async with StatefulAgentLoop(llm=ScriptedLLM([say("?"), say('{"name": "R"}')]), dsn=":memory:", hooks=hooks) as loop:
        assert (await loop.run("go", output_type=Mayor)).output == Mayor("R")
        assert loop.llm.requests[0].response_format is None
    assert seen == [("round", "json_schema"), ("output_retry", "json_schema")]
