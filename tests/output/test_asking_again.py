"""An answer that is not of the form: what the model is told, how often, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from power_loop import AgentHooks, AgentLoopConfig, HookDirective, ModelRetry, RunPolicy, StatefulAgentLoop, UsageLimits
from power_loop.context.pairing import check_pairs
from power_loop.errors import StructuredOutputError
from power_loop.testing import ScriptedLLM, call, calls, say

GOOD, BAD, WORSE = '{"name": "Rome", "people": 3}', '{"name": "Rome", "people": "many"}', "Rome is large."


@dataclass
class City:
    name: str
    people: int

    def __post_init__(self) -> None:
        if self.people > 100:
            raise ValueError("no city has so many")


def loop_of(*script: Any, retries: int = 2, hooks: AgentHooks | None = None, tools: Any = None, **config: Any) -> StatefulAgentLoop:
    settings = AgentLoopConfig(running=RunPolicy(output_retries=retries), **config)
    return StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", config=settings, hooks=hooks, tools=tools)


# acceptance: 148, 74 (the violation with its pointer)
async def test_a_wrong_answer_is_asked_for_again_with_what_is_wrong() -> None:
    async with loop_of(say(BAD), say(WORSE), say(GOOD)) as loop:
        result = await loop.run("go", output_type=City)
        rows = await loop.get_messages(result.session_id)
    assert (result.status, result.output, result.final_text, result.rounds) == ("completed", City("Rome", 3), GOOD, 3)
    told = [row["content"] for row in rows if row.get("name") == "schema"]
    assert [row["role"] for row in rows] == ["user", "assistant", "user", "assistant", "user", "assistant"]
    assert "- /people: must be an integer" in told[0]
    assert "there is no JSON document in it" in told[1]
    assert all(text.endswith("Answer again with the whole document, and nothing else.") for text in told)
    for request in loop.llm.requests:
        check_pairs(request.messages)
        assert request.response_format == loop.llm.requests[0].response_format


# acceptance: 148 (the bound)
@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_after_so_many_re_asks_the_send_ends_with_the_last_text(retries: int) -> None:
    async with loop_of(*[say(WORSE)] * retries, say(BAD), retries=retries) as loop:
        result = await loop.run("go", output_type=City)
        loop.llm.assert_complete()
        again = await loop.resume(result.session_id)
    assert (result.status, result.output, result.final_text) == ("invalid_output", None, BAD)
    assert result.error == {"code": "structured.invalid", "type": "StructuredOutputError", "message": result.error["message"]}
    assert result.error["message"].startswith("schema:/people: /people: must be an integer")
    assert result.rounds == retries + 1
    with pytest.raises(StructuredOutputError, match="schema:/people"):
        result.raise_for_status()
    assert (again.status, again.final_text, again.error, again.rounds) == ("invalid_output", BAD, result.error, 0)


async def test_the_session_goes_on_after_an_invalid_answer() -> None:
    async with loop_of(say(BAD), say("Yes?"), retries=0) as loop:
        result = await loop.run("go", output_type=City)
        assert (await loop.send("hello?", result.session_id)).final_text == "Yes?"
        check_pairs(loop.llm.requests[-1].messages)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "Rome", "people": 3', "its JSON cannot be read"),
        ('[{"name": "Rome"}]', "it is a JSON list, and an object was asked for"),
        ('{"name": "Rome", "people": 300}', "no city has so many"),
        ("{}", "- /name: is required, and missing\n- /people: is required, and missing"),
    ],
)
async def test_the_model_reads_what_was_wrong(text: str, says: str) -> None:
    async with loop_of(say(text), say(GOOD)) as loop:
        assert (await loop.run("go", output_type=City)).output == City("Rome", 3)
        assert says in loop.llm.requests[1].messages[-1]["content"]


async def test_a_mistake_that_is_made_a_thousand_times_is_told_in_brief() -> None:
    names = [f'"{"x" * 5000}": 1', *(f'"n{number}": 1' for number in range(1000))]
    wrong = say(f"{{{', '.join(names)}}}")
    async with loop_of(wrong, wrong, retries=1) as loop:
        result = await loop.run("go", output_type=City)
        told = loop.llm.requests[1].messages[-1]["content"]
    assert result.status == "invalid_output"
    for text in (told, result.error["message"]):
        assert len(text) < 5000
        assert "/name: is required" in text
        assert "/n40: is not allowed here" in text
        assert "… and 953 more" in text


async def test_an_answer_that_was_cut_off_is_told_so() -> None:
    async with loop_of(say('{"name": "Ro', finish_reason="length"), say(GOOD)) as loop:
        assert (await loop.run("go", output_type=City)).output == City("Rome", 3)
        assert "it was cut off" in loop.llm.requests[1].messages[-1]["content"]


async def test_what_a_pydantic_model_refuses_is_told_with_its_place() -> None:
    class Order(pydantic.BaseModel):
        codes: list[str]

        @pydantic.field_validator("codes")
        @classmethod
        def known(cls, codes: list[str]) -> list[str]:
            if "x" in codes:
                raise ValueError("x is no code")
            return codes

    async with loop_of(say('{"codes": ["x"]}'), say('{"codes": ["a"]}')) as loop:
        assert (await loop.run("go", output_type=Order)).output == Order(codes=["a"])
        assert "- /codes: Value error, x is no code" in loop.llm.requests[1].messages[-1]["content"]


# --- validators ----------------------------------------------------------------------------------


async def test_a_validator_has_the_model_asked_again_in_its_words_and_changes_the_value() -> None:
    seen: list[Any] = []

    def is_large(city: City) -> City:
        seen.append(city)
        if city.people < 3:
            raise ModelRetry("The city must have three million people at least.")
        return city

    async def named(city: City) -> str:
        return city.name.upper()

    async with loop_of(say('{"name": "Bern", "people": 0}'), say(GOOD), output_type=City, output_validators=(is_large, named)) as loop:
        result = await loop.run("go")
        assert (result.status, result.output) == ("completed", "ROME")
        last = loop.llm.requests[1].messages[-1]
        assert (last["role"], last["name"], last["content"]) == ("user", "schema", "The city must have three million people at least.")
    assert seen == [City("Bern", 0), City("Rome", 3)]


async def test_validators_count_like_violations_and_their_last_words_are_the_error() -> None:
    def never(value: Any) -> Any:
        raise ModelRetry("Not that.")

    async with loop_of(say(BAD), say(GOOD), retries=1, output_validators=(never,)) as loop:
        result = await loop.run("go", output_type=City)
    assert (result.status, result.final_text, result.output) == ("invalid_output", GOOD, None)
    assert result.error is not None
    assert (result.error["code"], result.error["message"]) == ("structured.invalid", "Not that.")


async def test_without_a_type_validators_get_the_text() -> None:
    def no_names(text: str) -> str:
        if "Bob" in text:
            raise ModelRetry("Leave names out.")
        return text.strip()

    async with loop_of(say("Bob did it."), say(" Someone did it. "), output_validators=(no_names,)) as loop:
        result = await loop.run("go")
        assert loop.llm.requests[0].response_format is None
    assert (result.output, result.final_text) == ("Someone did it.", " Someone did it. ")


async def test_what_else_a_validator_raises_leaves_the_send_and_a_resume_asks_it_again() -> None:
    broken = [True]

    def validator(value: Any) -> Any:
        if broken:
            raise RuntimeError("the validator is broken")
        return value

    async with loop_of(say(GOOD), output_type=City, output_validators=(validator,)) as loop:
        session = await loop.new_session()
        with pytest.raises(RuntimeError, match="the validator is broken"):
            await loop.send("go", session)
        broken.clear()
        result = await loop.resume(session)
    assert (result.status, result.output, result.rounds) == ("completed", City("Rome", 3), 0)


async def test_a_validator_sees_nothing_that_is_not_durable() -> None:
    stored: list[int] = []

    async def validator(value: Any) -> Any:
        stored.append(len(await loop.get_messages(session)))
        return value

    async with loop_of(say(GOOD), output_type=City, output_validators=(validator,)) as loop:
        session = await loop.new_session()
        await loop.send("go", session)
    assert stored == [2]


# --- limits ----------------------------------------------------------------------------------------


async def test_a_re_ask_has_a_round_of_its_own() -> None:
    async with loop_of(say(BAD), say(WORSE), say(GOOD)) as loop:
        result = await loop.run("go", output_type=City, max_rounds=1)
    assert (result.status, result.output) == ("completed", City("Rome", 3))


async def test_re_asks_are_charged_and_end_with_the_budget() -> None:
    limits = UsageLimits(requests=2)
    async with loop_of(say(BAD), say(WORSE)) as loop:
        result = await loop.run("go", output_type=City, limits=limits)
    assert (result.status, result.output, result.usage["calls"]) == ("budget_exceeded", None, 2)


async def test_the_ledger_tells_re_asks_apart() -> None:
    told: list[Any] = []
    async with loop_of(say(BAD), say(GOOD)) as loop:
        loop.event_bus.subscribe("usage_updated", told.append)
        loop.event_bus.subscribe("round_completed", told.append)
        result = await loop.run("go", output_type=City)
        stats = await loop.get_session_stats(result.session_id)
        usage = await (await loop.ensure_store()).list_usage(result.session_id)
    assert [event.payload["purpose"] for event in told if event.type == "usage_updated"] == ["round", "output_retry"]
    assert [event.payload["round_index"] for event in told if event.type == "round_completed"] == [0, 1]
    assert stats is not None
    assert (stats.rounds, stats.llm_calls, result.usage["calls"]) == (2, 2, 2)
    assert [row.purpose for row in usage] == ["round", "output_retry"]


# --- tools, words and hooks in between -----------------------------------------------------------


async def test_the_model_may_call_tools_before_it_answers_again() -> None:
    def look(city: str) -> str:
        """Look."""
        return "3"

    script = [say(BAD), calls(call("look", city="a"), call("look", city="b")), say(GOOD)]
    async with loop_of(*script, tools=[look], retries=1) as loop:
        result = await loop.run("go", output_type=City, max_rounds=2)
        usage = await (await loop.ensure_store()).list_usage(result.session_id)
    assert (result.status, result.output, result.tool_calls) == ("completed", City("Rome", 3), 2)
    assert [row.purpose for row in usage] == ["round", "output_retry", "round"]
    for request in loop.llm.requests:
        check_pairs(request.messages)


async def test_a_handler_hears_only_of_answers_that_are_of_the_form() -> None:
    heard: list[str] = []
    hooks = AgentHooks()

    def once(ctx: Any) -> Any:
        heard.append(ctx.final_text)
        if ctx.vetoes:
            return None
        ctx.message = "Think again."
        return HookDirective.SKIP

    hooks.register("complete.decide", once)
    async with loop_of(say(BAD), say(GOOD), say(WORSE), say(GOOD), hooks=hooks) as loop:
        result = await loop.run("go", output_type=City)
    assert (result.status, result.output) == ("completed", City("Rome", 3))
    assert heard == [GOOD, GOOD]


async def test_the_value_of_an_answer_that_was_vetoed_is_not_that_of_the_next_text() -> None:
    hooks = AgentHooks()

    def again(ctx: Any) -> Any:
        ctx.message = "Think again."
        return HookDirective.SKIP

    hooks.register("complete.decide", again)
    hooks.register("llm.after", lambda ctx: HookDirective.BREAK if ctx.output.text == WORSE else None)
    async with loop_of(say(GOOD), say(WORSE), hooks=hooks) as loop:
        result = await loop.run("go", output_type=City)
    assert (result.status, result.final_text, result.output) == ("completed", WORSE, None)


async def test_the_row_of_a_re_ask_cannot_be_dropped() -> None:
    hooks = AgentHooks()
    hooks.register("message.append", lambda ctx: HookDirective.SKIP)
    async with loop_of(say(BAD), say(GOOD), hooks=hooks) as loop:
        assert (await loop.run("go", output_type=City)).output == City("Rome", 3)


@pytest.mark.parametrize("validators", [(), (lambda value: value,)], ids=["", "with a validator"])
async def test_a_word_that_is_heard_meanwhile_is_answered_in_the_form_too(validators: Any) -> None:
    async def more(ctx: Any) -> None:
        if len(loop.llm.requests) == 1:
            await loop.follow_up("And be quick.", session)

    hooks = AgentHooks()
    hooks.register("llm.after", more)
    script = [say(GOOD), say(BAD), say('{"name": "Oslo", "people": 1}')]
    async with loop_of(*script, hooks=hooks, output_validators=validators) as loop:
        session = await loop.new_session()
        result = await loop.send("go", session, output_type=City)
        names = [row.get("name") for row in await loop.get_messages(session) if row["role"] == "user"]
    assert result.output == City("Oslo", 1)
    assert names == [None, "follow_up", "schema"]


async def test_an_empty_reply_is_first_asked_for_as_such() -> None:
    async with loop_of(say(""), say(""), say(GOOD)) as loop:
        result = await loop.run("go", output_type=City)
        rows = await loop.get_messages(result.session_id)
    assert result.output == City("Rome", 3)
    assert [row.get("name") for row in rows if row["role"] == "user"] == [None, "schema"]


async def test_a_word_of_the_callers_own_with_that_name_is_no_re_ask() -> None:
    async with loop_of(say(BAD), say(WORSE), say(GOOD)) as loop:
        session = await loop.new_session()
        result = await loop.send({"role": "user", "name": "schema", "content": "go"}, session, output_type=City)
    assert result.output == City("Rome", 3)


async def test_a_validator_that_raises_once_a_send_is_over_takes_nothing_back() -> None:
    def breaks(value: Any) -> Any:
        raise RuntimeError("no connection")

    def enough(context: Any) -> None:
        context.directive = HookDirective.BREAK

    hooks = AgentHooks()
    hooks.register("llm.after", enough)
    async with loop_of(say(GOOD), hooks=hooks, output_validators=[breaks]) as loop:
        result = await loop.run("go", output_type=City)
        again = await loop.resume(result.session_id)
    assert [(each.status, each.final_text, each.output) for each in (result, again)] == [("completed", GOOD, None)] * 2
