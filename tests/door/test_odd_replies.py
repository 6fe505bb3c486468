"""A model may answer anything: empty, cut off, broken, with ids that cannot be used. Each has one defined outcome."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    LLMError,
    LLMPermanentError,
    LLMRequest,
    LLMResponse,
    LLMRetryPolicy,
    LLMStreamChunk,
    RunPolicy,
    tool,
)
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, call, calls, fail, raw_call, respond, say

AT_ONCE = LLMRetryPolicy(max_attempts=2, backoff_initial=0.0001, backoff_max=0.0001)


class Saved:
    """A tool that remembers what it was called with."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def save(self, text: str = "nothing") -> str:
        """Save."""
        self.got.append(text)
        return f"saved {text}"


def replied(*tool_calls: Any, text: str = "", finish_reason: str | None = None) -> Any:
    """A reply with tool calls exactly as a provider may send them."""
    return respond(lambda _: LLMResponse(content_text=text, tool_calls=list(tool_calls), finish_reason=finish_reason))


def asked(id: Any, arguments: Any = '{"text": "x"}', name: Any = "save") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def no_empty_rows(requests: list[LLMRequest]) -> bool:
    return all(m.get("content") or m.get("tool_calls") for request in requests for m in request.messages if m["role"] == "assistant")


# acceptance: 168 (empty replies)
@pytest.mark.parametrize("empty", ["", "   \n", say("", think="I think"), say("", finish_reason="length")])
async def test_an_empty_reply_is_asked_again_with_a_reminder_that_is_not_stored(home: Any, empty: Any) -> None:
    loop = home.loop(empty, "here I am", "next")
    session = await loop.new_session()
    result = await loop.send("hello?", session)
    assert (result.status, result.final_text, result.usage["calls"]) == ("completed", "here I am", 2)
    first, again = loop.llm.requests
    assert again.messages[:-1] == first.messages
    assert again.messages[-1]["role"] == "user"
    await loop.send("and?", session)
    assert no_empty_rows(loop.llm.requests)
    assert again.messages[-1] not in loop.llm.requests[2].messages
    assert [m["content"] for m in loop.llm.requests[2].messages] == ["hello?", "here I am", "and?"]


# acceptance: 168 (empty to the end)
@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_a_model_that_stays_empty_ends_the_send_completed_without_text(home: Any, retries: int) -> None:
    config = AgentLoopConfig(running=RunPolicy(empty_reply_retries=retries))
    loop = home.loop(*[""] * (retries + 1), "next", config=config)
    session = await loop.new_session()
    result = await loop.send("hello?", session)
    assert (result.status, result.final_text, result.finish_reason, result.usage["calls"]) == ("completed", "", "stop", retries + 1)
    assert (await loop.send("and?", session)).final_text == "next"
    assert no_empty_rows(loop.llm.requests)


# acceptance: 168 (empty after tools)
async def test_an_empty_reply_after_tools_is_asked_again_too(home: Any) -> None:
    saved = Saved()
    loop = home.loop(call("save", text="x"), "", call("save", text="y"), "", "done", tools=[saved.save])
    result = await loop.run("go")
    assert (result.final_text, saved.got) == ("done", ["x", "y"])
    assert no_empty_rows(loop.llm.requests)


# acceptance: 168 (truncated text)
async def test_a_text_that_was_cut_off_is_kept_and_marked(home: Any) -> None:
    loop = home.loop(say("Once upon a", finish_reason="length"))
    session = await loop.new_session()
    result = await loop.send("A story!", session)
    assert (result.status, result.final_text, result.finish_reason) == ("completed", "Once upon a", "length")
    (row,) = [row for row in await (await loop.ensure_store()).load_all_messages(session) if row.role == "assistant"]
    assert row.content == "Once upon a"
    assert row.meta["finish"] == "length"


# acceptance: 168 (truncated calls)
@pytest.mark.parametrize("arguments", ['{"text": "x', '{"text": "x"', "{", ""])
async def test_a_call_that_was_cut_off_is_not_run_and_the_model_is_told(home: Any, arguments: str) -> None:
    saved = Saved()
    loop = home.loop(replied(asked("one"), asked("two", arguments), text="I save.", finish_reason="length"), "I see.", tools=[saved.save])
    result = await loop.run("go")
    assert (result.status, saved.got) == ("completed", ["x"])
    whole, cut = (m for m in loop.llm.requests[1].messages if m["role"] == "tool")
    assert whole["content"] == "saved x"
    assert cut["is_error"]
    assert "not called" in cut["content"]


# acceptance: 168 (broken JSON)
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "arguments",
    [
        *("{", "}", '{"text": }', "text=x", "{'text': 'x'}", '{"text": "x"} trailing', "nothing", " ", "\ufeff{}", '{"text": "\\u12"}'),
        *("[]", '"text"', "3", "null", "true", '[{"text": "x"}]', '{"text": NaN}', '{"text": Infinity}'),
        *('{"a":' * 100_000, "[" * 100_000),
    ],
    ids=lambda text: text[:12],
)
async def test_arguments_that_are_no_json_object_are_answered_and_never_become_an_empty_one(home: Any, arguments: str) -> None:
    saved = Saved()
    loop = home.loop(raw_call("save", arguments), "I see.", tools=[saved.save])
    result = await loop.run("go")
    told = loop.llm.requests[1].messages[-1]
    assert (result.status, saved.got, result.tool_calls) == ("completed", [], 0)
    assert told["is_error"]
    assert told["content"].startswith("Error: the arguments of save")
    assert "not called" in told["content"]
    assert loop.llm.requests[1].messages[-2]["tool_calls"][0]["function"]["arguments"] == arguments, "the model sees what it wrote"


# acceptance: 168 (what the parser says)
async def test_the_error_quotes_the_parser(home: Any) -> None:
    loop = home.loop(raw_call("save", '{"text": "x",}'), "I see.", tools=[Saved().save])
    await loop.run("go")
    with pytest.raises(ValueError, match="char") as parsed:
        json.loads('{"text": "x",}')
    assert str(parsed.value) in loop.llm.requests[1].messages[-1]["content"]


async def test_raw_newlines_and_tabs_inside_strings_are_repaired(home: Any) -> None:
    saved = Saved()
    loop = home.loop(raw_call("save", '{"text": "two\nlines\tand a tab"}'), "done", tools=[saved.save])
    await loop.run("go")
    assert saved.got == ["two\nlines\tand a tab"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
async def test_what_python_takes_for_numbers_and_json_does_not_is_refused(home: Any, number: str) -> None:
    got: list[float] = []

    def save(number: float) -> str:
        """Save."""
        got.append(number)
        return ""

    loop = home.loop(raw_call("save", f'{{"number": {number}}}'), "I see.", tools=[save])
    await loop.run("go")
    assert got == []
    assert number in loop.llm.requests[1].messages[-1]["content"]


async def test_no_arguments_at_all_are_an_empty_object(home: Any) -> None:
    saved = Saved()
    loop = home.loop(calls(raw_call("save", ""), raw_call("save", "{}")), "done", tools=[saved.save])
    await loop.run("go")
    assert saved.got == ["nothing", "nothing"]


@pytest.mark.parametrize("arguments", [{"text": "x"}, None])
async def test_arguments_that_a_provider_parsed_already_are_taken(home: Any, arguments: Any) -> None:
    saved = Saved()
    loop = home.loop(replied(asked("one", arguments)), "done", tools=[saved.save])
    await loop.run("go")
    assert saved.got == ["x" if arguments else "nothing"]
    assert isinstance(loop.llm.requests[1].messages[-2]["tool_calls"][0]["function"]["arguments"], str)


IDS = {
    "repeated": ["same", "same", "same"],
    "missing": [None, None, None],
    "empty": ["", "", ""],
    "numbers": [1, 1, 2],
    "too long": ["x" * 500, "x" * 500, "y" * 500],
    "unprintable": ["a\0", "a\n", "\ud800"],
    "as ours would be": ["call_1_0_1", "", "call_1_0_1_2"],
    "as ours, later": ["", "call_1_0_0", ""],
}


@pytest.mark.parametrize("kind", IDS)
async def test_ids_that_are_missing_or_repeated_become_unique_ones(home: Any, kind: str) -> None:
    saved = Saved()
    given = [asked(each, json.dumps({"text": str(n)})) for n, each in enumerate(IDS[kind])]
    loop = home.loop(replied(*given), "done", tools=[saved.save])
    result = await loop.run("go")
    messages = loop.llm.requests[1].messages
    ids = [each["id"] for each in messages[1]["tool_calls"]]
    assert (result.status, sorted(saved.got)) == ("completed", ["0", "1", "2"])
    assert len(set(ids)) == 3
    assert all(isinstance(each, str) and 0 < len(each) <= 191 for each in ids)
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == ids
    assert [m["content"] for m in messages if m["role"] == "tool"] == ["saved 0", "saved 1", "saved 2"]


async def test_an_id_of_a_round_that_was_folded_away_inside_its_send_is_replaced(home: Any) -> None:
    @tool(effects="pure")
    def read(part: int) -> str:
        """Read a part."""
        return f"part {part} " + "x" * 20_000

    parts = [LLMResponse(tool_calls=[asked("call_0", {"part": n}, "read")]) for n in range(8)]
    model = FunctionLLM(lambda request: say("so far") if request.reason == "fold" else parts.pop(0) if parts else say("done"))
    loop = home.loop(llm=model, tools=[read], config=AgentLoopConfig(context_tokens=20_000))
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "completed"
    assert any(request.reason == "fold" for request in model.requests)
    ids = [each["id"] for row in await loop.store.load_all_messages(session) for each in row.tool_calls or ()]
    assert len(ids) == len(set(ids)) == 8


async def test_an_id_that_an_earlier_round_or_send_had_is_replaced(home: Any) -> None:
    saved = Saved()
    loop = home.loop(*[replied(asked("same")), replied(asked("same")), say("done")] * 2, tools=[saved.save])
    session = await loop.new_session()
    for _ in range(2):
        await loop.send("go", session)
    messages = await loop.get_messages(session)
    ids = [each["id"] for m in messages for each in m.get("tool_calls", ())]
    assert len(set(ids)) == len(ids) == 4
    check_pairs(messages)


@pytest.mark.parametrize("broken", [{}, {"id": "x"}, {"function": None}, {"function": {}}, {"function": {"name": None}}])
async def test_a_call_without_name_or_function_is_answered(home: Any, broken: dict[str, Any]) -> None:
    loop = home.loop(replied(broken), "I see.", tools=[Saved().save])
    result = await loop.run("go")
    assert result.status == "completed"
    assert "no tool named" in loop.llm.requests[1].messages[-1]["content"]
    check_pairs(loop.llm.requests[1].messages)


async def test_a_name_that_no_provider_takes_back_is_made_one_it_does(home: Any) -> None:
    loop = home.loop(replied(asked("one", name="böse.tool name/" + "x" * 100)), "I see.", tools=[Saved().save])
    await loop.run("go")
    name = loop.llm.requests[1].messages[1]["tool_calls"][0]["function"]["name"]
    assert name.isascii()
    assert len(name) == 64


async def test_nul_and_lone_surrogates_in_arguments_reach_the_tool_and_come_back(home: Any) -> None:
    saved = Saved()
    both = calls(call("save", text="a\0b\ud800"), raw_call("save", '{"text": "\ud800 raw"}'))
    loop = home.loop(both, "done \0 \udfff", tools=[saved.save])
    session = await loop.new_session()
    result = await loop.send("go \0 \ud83d", session)
    assert saved.got == ["a\0b\ud800", "\ud800 raw"]
    assert result.final_text == "done \0 \udfff"
    reopened = home.loop("next")
    await reopened.send("and?", session)
    messages = reopened.llm.requests[0].messages
    assert messages[0]["content"] == "go \0 \ud83d"
    assert [m["content"] for m in messages if m["role"] == "tool"] == ["saved a\0b\ud800", "saved \ud800 raw"]
    assert messages[-2]["content"] == "done \0 \udfff"


# --- a model that breaks ------------------------------------------------------------------------------------------------


class Streams:
    """A model that can only stream, and may break in the middle."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces, self.requests = list(pieces), []
        self.closed = 0

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        self.requests.append(request)
        try:
            for piece in self.pieces.pop(0):
                if isinstance(piece, BaseException):
                    raise piece
                yield piece if isinstance(piece, LLMStreamChunk) else LLMStreamChunk(piece)
        finally:
            self.closed += 1


BROKEN = ["Half an ", ConnectionResetError("peer gone")]


async def test_a_stream_that_breaks_without_a_policy_is_an_llm_error_and_the_send_can_go_on(home: Any) -> None:
    model = Streams(BROKEN, ["A whole ", "answer."])
    loop = home.loop(llm=model)
    session = await loop.new_session()
    with pytest.raises(LLMError, match="peer gone") as raised:
        await loop.send("go", session)
    assert isinstance(raised.value.__cause__, ConnectionResetError)
    assert [m["content"] for m in await loop.get_messages(session)] == ["go"]
    assert [(row.purpose, row.estimated) for row in await (await loop.ensure_store()).list_usage(session)] == [("round", True)]
    result = await loop.resume(session)
    assert (result.final_text, result.send_index, model.closed) == ("A whole answer.", 1, 2)


async def test_a_stream_that_breaks_under_a_policy_is_tried_again_and_only_the_whole_text_is_stored(home: Any) -> None:
    model = Streams(BROKEN, ["A whole ", "answer."])
    loop = home.loop(llm=model, config=AgentLoopConfig(retry_policy=AT_ONCE))
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.final_text) == ("completed", "A whole answer.")
    assert [m["content"] for m in await loop.get_messages(session)] == ["go", "A whole answer."]


async def test_a_stream_that_always_breaks_degrades_readably_and_the_next_send_does_not_see_it(home: Any) -> None:
    model = Streams(BROKEN, BROKEN, ["Back."])
    loop = home.loop(llm=model, config=AgentLoopConfig(retry_policy=AT_ONCE))
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert result.status == "degraded"
    assert result.final_text.startswith("[degraded: LLM retry_exhausted — ConnectionResetError: peer gone")
    assert result.error["code"] == "llm.retry_exhausted"
    assert (await loop.send("again?", session)).final_text == "Back."
    assert [m["content"] for m in model.requests[2].messages] == ["go", "again?"]


async def test_a_stream_that_breaks_inside_a_call_runs_nothing(home: Any) -> None:
    saved = Saved()
    half = LLMStreamChunk(delta_tool_calls=[asked("one", '{"te')], tool_calls=[asked("one", '{"te')])
    loop = home.loop(llm=Streams([half, ConnectionResetError("gone")]), tools=[saved.save])
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("go", session)
    assert saved.got == []
    assert await loop.get_pending(session) is None


async def test_a_stream_without_a_single_chunk_is_an_empty_reply(home: Any) -> None:
    loop = home.loop(llm=Streams([], ["There."]))
    assert (await loop.run("go")).final_text == "There."


@pytest.mark.parametrize("error", [ValueError("bad"), TimeoutError("slow"), LLMPermanentError("no such model", status_code=404)])
async def test_what_a_model_raises_leaves_as_an_llm_error_with_its_cause(home: Any, error: Exception) -> None:
    loop = home.loop(fail(error), "fine")
    session = await loop.new_session()
    with pytest.raises(LLMError, match=str(error)) as raised:
        await loop.send("go", session)
    assert error in (raised.value, raised.value.__cause__)
    assert (await loop.send("again", session)).final_text == "fine"


@pytest.mark.parametrize("answer", [None, "just text", 3, {"content": "x"}])
async def test_a_model_that_gives_no_response_is_named_in_an_llm_error(home: Any, answer: Any) -> None:
    class Odd:
        async def complete(self, request: LLMRequest, **how: Any) -> Any:
            return answer

    loop = home.loop(llm=Odd())
    session = await loop.new_session()
    with pytest.raises(LLMError, match=type(answer).__name__):
        await loop.send("go", session)
    assert (await loop.get_messages(session))[-1]["role"] == "user"


@tool
def unused() -> str:
    """Never called."""
    return ""


async def test_a_tool_call_of_a_model_that_was_offered_none_waits_as_pending_tools(home: Any) -> None:
    loop = home.loop(call("save", text="x"), "done")
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, len(result.pending_tool_calls)) == ("pending_tools", 1)
    saved = Saved()
    assert (await loop.resume(session, tools=[saved.save])).final_text == "done"
    assert saved.got == ["x"]
