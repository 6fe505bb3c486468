"""Recalling originals, and asking the user."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentLoopConfig, ContextPolicy, LLMRequest, LLMResponse, LLMSummaryFold, ToolPolicy, tool
from power_loop.contracts.errors import HumanInputRequired
from power_loop.contracts.kept_rows import CompactionRow
from power_loop.contracts.rows import MessageRow, MessageState
from power_loop.contracts.tool import ToolRun
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say
from power_loop.tools.builtin.ask import request_user_input
from power_loop.tools.presets import create_default_tool_registry


class FoldedStore:
    """A session whose first ``folded`` messages a summary stands for."""

    def __init__(self, texts: list[str], folded: int) -> None:
        self._rows = [
            MessageRow("s", n, "user", None, text, None, None, None, _state(n <= folded), {}, 0, (n + 1) // 2)
            for n, text in enumerate(texts, 1)
        ]

    async def load_all_messages(self, session_id: str) -> list[MessageRow]:
        return self._rows

    async def list_compactions(self, session_id: str) -> list[CompactionRow]:
        return []


def _state(folded: bool) -> MessageState:
    return MessageState.COMPACTED_OUT if folded else MessageState.ACTIVE


async def recalled(store: Any, name: str = "recall_compacted", **args: Any) -> Any:
    registry = create_default_tool_registry(include=[name])
    return await registry.invoke_async(name, args, run=ToolRun("s", store=store))


# acceptance: 91 (recall_compacted)
async def test_folded_originals_come_back_newest_last(desk: Any) -> None:
    store = FoldedStore(["the Red fox", "a blue whale", "red and blue", "still here, red"], folded=3)
    both = await recalled(store, query="RED")
    assert both.content == "[seq 1, send #1] user:\nthe Red fox\n\n[seq 3, send #2] user:\nred and blue"
    assert (await recalled(store, query="blue red")).content == "[seq 3, send #2] user:\nred and blue"
    assert "whale" in (await recalled(store, from_seq=2, to_seq=2)).content
    assert "seq 1 to 3" in (await recalled(store, query="green")).content
    assert "all its messages are before you" in (await recalled(FoldedStore(["a"], 0))).content
    newest = (await recalled(store, limit=1)).content
    assert newest.startswith("[2 older ones match too")
    assert newest.endswith("red and blue")


async def test_twenty_messages_of_two_thousand_characters_are_recalled_unless_more_are_asked_for() -> None:
    store = FoldedStore(["x" * 3000] * 60, folded=60)
    found = (await recalled(store)).content.split("\n\n")
    assert found[0].startswith("[40 older ones")
    assert [each[:8] for each in found[1:]] == [f"[seq {n}," for n in range(41, 61)]
    assert all(len(each) < 2100 and "more characters]" in each for each in found[1:])
    assert len((await recalled(store, limit=50)).content.split("\n\n")) == 51


@tool(effects="pure")
def long_text() -> str:
    """A long text."""
    return "".join(f"{n:05}," for n in range(1000))


# acceptance: 91 (recall_send)
async def test_the_messages_of_one_send_come_back_whole() -> None:
    registry = create_default_tool_registry(include=["recall_send", "recall_output"])
    registry.add(long_text)
    model = ScriptedLLM([say("first answer"), call("long_text"), say("second answer"), call("recall_send", send_index=1), say("third")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        for text in ("first", "second", "third"):
            await loop.send(text, session)
        *_, result, _ = await loop.get_messages(session)
        two = await registry.invoke_async("recall_send", {"send_index": 2}, run=ToolRun(session, store=loop.store))
        none = await registry.invoke_async("recall_send", {"send_index": 9}, run=ToolRun(session, store=loop.store))
    assert "user:\nfirst\n\n" in result["content"]
    assert result["content"].endswith("first answer")
    assert "→ long_text({}) as " in two.content
    assert "00999," in two.content
    assert (none.ok, none.content) == (False, "There is no send #9; this session has #1 to #3.")


async def test_a_cut_result_is_read_back_in_parts_that_fit() -> None:
    registry = create_default_tool_registry(include=["recall_output"])
    registry.add(long_text)
    config = AgentLoopConfig(tooling=ToolPolicy(result_max_chars=1000))
    model = ScriptedLLM([call("long_text"), say("cut")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry, config=config) as loop:
        session = await loop.new_session()
        await loop.send("read", session)
        (cut,) = [each for each in await loop.get_messages(session) if each["role"] == "tool"]
        run = ToolRun(session, store=loop.store, config=config)
        parts: list[str] = []
        while sum(map(len, parts)) < 6000:
            args = {"call_id": cut["tool_call_id"], "offset": sum(map(len, parts))}
            part = (await registry.invoke_async("recall_output", args, run=run)).content
            assert len(part) <= 1000
            parts.append(part.split("\n")[1])
        beyond = await registry.invoke_async("recall_output", {"call_id": cut["tool_call_id"], "offset": 6000}, run=run)
        unknown = await registry.invoke_async("recall_output", {"call_id": "call_9"}, run=run)
    assert "recall_output(call_id=" in cut["content"]
    assert "".join(parts) == "".join(f"{n:05}," for n in range(1000))
    assert (beyond.ok, "lies beyond its end" in beyond.content) == (False, True)
    assert (unknown.ok, "no result of a call 'call_9'" in unknown.content) == (False, True)


# --- asking -------------------------------------------------------------------------------------------

CHOICE = [{"id": "a", "label": "Tea"}, {"id": "b", "label": "Coffee", "description": "black"}]


async def test_a_question_parks_the_call_and_its_answer_is_the_result() -> None:
    registry = create_default_tool_registry(include=["request_user_input"])
    ask = call("request_user_input", prompt="Which?", kind="choice", options=CHOICE, metadata={"at": "bar"})
    async with StatefulAgentLoop(llm=ScriptedLLM([ask, say("Tea it is.")]), dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        waiting = await loop.send("order", session)
        assert waiting.status == "waiting_for_input"
        (asked,) = waiting.pending_interactions
        assert (asked["kind"], asked["prompt"], asked["options"], asked["metadata"]) == ("choice", "Which?", CHOICE, {"at": "bar"})
        answered = await loop.submit_input(session, asked["interaction_id"], "a")
        assert answered.final_text == "Tea it is."
        assert [each["content"] for each in await loop.get_messages(session) if each["role"] == "tool"] == ["a"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"prompt": "Which?", "kind": "choice"}, "needs options"),
        ({"prompt": "  "}, "is empty"),
        ({"prompt": "Which?", "kind": "choice", "options": [CHOICE[0], CHOICE[0]]}, "the same id"),
    ],
)
async def test_a_question_that_nobody_could_answer_is_refused(desk: Any, args: dict[str, Any], why: str) -> None:
    assert why in await desk.bad("request_user_input", **args)


def test_a_tool_of_the_host_asks_the_same_way() -> None:
    with pytest.raises(HumanInputRequired) as raised:
        request_user_input(kind="confirm", prompt="Sure?")
    assert (raised.value.kind, raised.value.prompt, raised.value.options) == ("confirm", "Sure?", [])


# acceptance: 91 (after a fold)
async def test_after_a_fold_the_model_reads_the_originals_that_the_summary_left_out() -> None:
    def answer(request: LLMRequest) -> LLMResponse:
        last = request.messages[-1]
        if request.reason == "fold":
            return say("they talked")
        if last["role"] == "tool":
            return say(last["content"])
        return call("recall_compacted", query="swordfish") if last["content"] == "what was it?" else say("noted")

    fold = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1), fold_target_ratio=0.3)
    config = AgentLoopConfig(context_tokens=1500, context=fold)
    registry = create_default_tool_registry(include=["recall_compacted"])
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn=":memory:", tool_registry=registry, config=config) as loop:
        session = await loop.new_session()
        await loop.send("the password is swordfish", session)
        for _ in range(20):
            await loop.send("word " * 100, session)
        assert await loop.store.list_compactions(session), "something was folded"
        told = (await loop.send("what was it?", session)).final_text
    assert told == "[seq 1, send #1] user:\nthe password is swordfish"
