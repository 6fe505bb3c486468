"""The points as a loop asks them: each handler gets its context, and each honoured directive has its effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from power_loop.config import AgentLoopConfig
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.hook_contexts import CONTEXTS
from power_loop.contracts.hooks import HookDirective, HookPoint
from power_loop.contracts.model import LLMResponse
from power_loop.contracts.outcome import StatefulResult
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.hooks import AgentHooks
from power_loop.testing import ScriptedLLM, call, calls, say

SHORT_CIRCUIT, SKIP, BREAK, CANCEL = HookDirective.SHORT_CIRCUIT, HookDirective.SKIP, HookDirective.BREAK, HookDirective.CANCEL
Handler = Callable[[Any], Any]
TOOL_ROUND = (call("add", a=1), say("done"))
# Asked in a send with one tool round; the others need a fold, a memory, a timer or a tool that raises.
IN_EVERY_TOOL_ROUND = [
    *("session.start", "session.end", "round.start", "round.end", "llm.before", "llm.after", "round.decide", "message.append"),
    *("tools.batch.before", "tools.batch.after", "tool.before", "tool.after", "complete.decide"),
]


class Ran(NamedTuple):
    """What came of one send, and what is stored of it."""

    result: StatefulResult
    messages: list[dict[str, Any]]
    added: list[int]
    events: list[AgentEvent]
    requests: list[Any]

    @property
    def tool_results(self) -> list[Any]:
        return [message["content"] for message in self.messages if message["role"] == "tool"]

    def reasons(self) -> list[str]:
        return [event.payload["reason"] for event in self.events if event.type == "session_ended"]


class Shop:
    """A loop with one tool, ``add``, in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.added = folder, list[int]()

    def add(self, a: int) -> str:
        """Add up."""
        if a < 0:
            raise ValueError("negative")
        self.added.append(a)
        return f"sum {sum(self.added)}"

    async def send(self, script: Sequence[Any], *, config: AgentLoopConfig | None = None, **handlers: Handler) -> Ran:
        """One send with ``handlers`` at the points that their names spell: ``tool_before=…``."""
        hooks = AgentHooks()
        for name, handler in handlers.items():
            hooks.register(HookPoint[name.upper()], handler)
        model = ScriptedLLM(script, strict=False)
        loop = StatefulAgentLoop(llm=model, dsn=str(self.folder / "shop.db"), tools=[self.add], hooks=hooks, config=config)
        events: list[AgentEvent] = []
        loop.event_bus.subscribe(None, events.append)
        async with loop:
            session = await loop.new_session()
            result = await loop.send("go", session)
            messages = await loop.get_messages(session)
            after = await loop.send("and now?", session)
            assert after.status == "completed", "a plain send works at once after whatever the handlers did"
            return Ran(result, messages, self.added, events, list(model.requests))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def giving(directive: HookDirective, **assigned: Any) -> Handler:
    """A handler that gives ``directive`` the first time that it is asked."""
    asked: list[int] = []

    def handler(ctx: Any) -> HookDirective | None:
        asked.append(1)
        if len(asked) > 1:
            return None
        for name, value in assigned.items():
            setattr(ctx, name, value)
        return directive

    return handler


# acceptance: 48 (called with the documented context)
@pytest.mark.parametrize("point", IN_EVERY_TOOL_ROUND)
async def test_a_handler_is_called_with_the_context_of_its_point(shop: Shop, point: str) -> None:
    seen: list[Any] = []
    ran = await shop.send([*TOOL_ROUND, say("again")], **{point.replace(".", "_"): seen.append})
    assert ran.result.status == "completed"
    assert seen
    assert {type(ctx) for ctx in seen} == {CONTEXTS[point]}
    assert {ctx.session_id for ctx in seen} == {ran.result.session_id}
    assert seen[0].send_index == 1
    assert (seen[0].depth, seen[0].scope) == (0, "main")


# acceptance: 49 (a send)
async def test_a_skipped_tool_is_answered_by_the_handler_and_not_run(shop: Shop) -> None:
    ran = await shop.send([*TOOL_ROUND, say("again")], tool_before=giving(SKIP, output="not today"))
    assert (ran.added, ran.tool_results, ran.result.status) == ([], ["not today"], "completed")
    assert ran.result.tool_calls == 0
    assert [message["content"] for message in ran.requests[1].messages if message["role"] == "tool"] == ["not today"]


async def test_a_veto_without_words_says_that_it_was_one(shop: Shop) -> None:
    ran = await shop.send([*TOOL_ROUND, say("again")], tool_before=giving(SKIP))
    assert ran.tool_results[0].startswith("[skipped")


# acceptance: 48 (what ends a run)
@pytest.mark.parametrize(("directive", "status"), [(BREAK, "completed"), (CANCEL, "cancelled")])
@pytest.mark.parametrize("name", ["tool_before", "tools_batch_before", "round_decide"])
async def test_ending_the_run_before_tools_leaves_no_call_without_a_result(
    shop: Shop, name: str, directive: HookDirective, status: str
) -> None:
    two = calls(call("add", a=1), call("add", a=2))
    ran = await shop.send([two, say("again")], **{name: giving(directive, output="stop", reason="too late")})
    assert (ran.result.status, ran.added, len(ran.tool_results)) == (status, [], 2)
    assert ran.tool_results[0] == "stop"


# acceptance: 48 (round.decide, tools.batch.before)
@pytest.mark.parametrize("name", ["tools_batch_before", "round_decide"])
async def test_skipping_a_batch_answers_every_call_and_goes_on(shop: Shop, name: str) -> None:
    two = calls(call("add", a=1), call("add", a=2))
    ran = await shop.send([two, say("done"), say("again")], **{name: giving(SKIP, output="no")})
    assert (ran.result.final_text, ran.added, ran.tool_results) == ("done", [], ["no", "no"])


# acceptance: 48 (tool.before)
async def test_rewritten_arguments_are_what_the_tool_gets(shop: Shop) -> None:
    def ten_times(ctx: Any) -> None:
        ctx.tool_args["a"] *= 10

    assert (await shop.send([*TOOL_ROUND, say("again")], tool_before=ten_times)).added == [10]


# acceptance: 48 (tool.before)
async def test_rewritten_arguments_are_validated_again(shop: Shop) -> None:
    def spoil(ctx: Any) -> None:
        ctx.tool_args = {"a": "one"}

    ran = await shop.send([*TOOL_ROUND, say("again")], tool_before=spoil)
    assert ran.added == []
    assert "invalid" in ran.tool_results[0]


# acceptance: 48 (tool.after)
async def test_a_result_may_be_replaced_before_it_is_stored(shop: Shop) -> None:
    def redact(ctx: Any) -> None:
        ctx.output = ctx.output.replace("sum", "***")

    assert (await shop.send([*TOOL_ROUND, say("again")], tool_after=redact)).tool_results == ["*** 1"]


# acceptance: 48 (tool.after)
async def test_a_result_may_be_made_a_failure(shop: Shop) -> None:
    def fails(ctx: Any) -> None:
        ctx.failed = True

    ran = await shop.send([*TOOL_ROUND, say("again")], tool_after=fails)
    assert [event.payload["outcome"] for event in ran.events if event.type == "tool_call_completed"] == ["failed"]


async def test_ending_the_run_after_a_tool_keeps_its_result(shop: Shop) -> None:
    ran = await shop.send([*TOOL_ROUND], tool_after=giving(BREAK))
    assert (ran.result.status, ran.tool_results) == ("completed", ["sum 1"])


# acceptance: 48 (tool.error)
@pytest.mark.parametrize(
    ("handler", "results"),
    [(giving(SKIP, output="nothing happened"), ["nothing happened"]), (lambda ctx: None, ["negative"])],
    ids=["answered by the handler", "told to the model"],
)
async def test_a_tool_that_raises_is_answered_once(shop: Shop, handler: Handler, results: list[str]) -> None:
    ran = await shop.send([call("add", a=-1), say("done"), say("again")], tool_error=handler)
    assert len(ran.tool_results) == 1
    assert results[0] in ran.tool_results[0]


# acceptance: 48 (tool.error)
async def test_a_tool_that_raises_is_tried_once_more_when_a_handler_asks_for_it(shop: Shop) -> None:
    tries: list[int] = []
    await shop.send([call("add", a=-1), say("done"), say("again")], tool_error=lambda ctx: tries.append(1) or SHORT_CIRCUIT)
    assert len(tries) == 2


# acceptance: 48 (llm.before)
async def test_a_reply_given_by_a_handler_takes_the_place_of_the_call(shop: Shop) -> None:
    reply = LLMResponse(raw_text="cached", content_text="cached", finish_reason="stop")
    ran = await shop.send([say("again")], llm_before=giving(SHORT_CIRCUIT, output=reply))
    assert ran.result.final_text == "cached"
    assert len(ran.requests) == 1, "only the second send reached the model"


# acceptance: 48 (llm.before)
async def test_a_short_circuit_without_a_reply_is_a_mistake_that_is_named(shop: Shop) -> None:
    with pytest.raises(ValueError, match="LLMResponse"):
        await shop.send([say("never")], llm_before=giving(SHORT_CIRCUIT))


# acceptance: 52
async def test_editing_messages_shapes_this_request_and_nothing_else(shop: Shop) -> None:
    def edit(ctx: Any) -> None:
        ctx.messages[0]["content"] = "changed"
        ctx.messages.append({"role": "user", "content": "in five words"})

    ran = await shop.send([say("done"), say("again")], llm_before=edit)
    assert [message["content"] for message in ran.requests[0].messages] == ["changed", "in five words"]
    assert [message["content"] for message in ran.messages] == ["go", "done"]


# acceptance: 52 (a later request, at any depth)
async def test_what_is_edited_in_one_request_is_as_it_was_in_the_next(shop: Shop) -> None:
    rounds: list[int] = []

    def edit(ctx: Any) -> None:
        rounds.append(ctx.send_index)
        if ctx.send_index == 1:
            for message in ctx.messages:
                message["content"] = "changed"
                for asked in message.get("tool_calls") or ():
                    asked["function"]["name"] = "changed"
            ctx.messages.append({"role": "user", "content": "more"})

    ran = await shop.send([*TOOL_ROUND, say("again")], llm_before=edit)
    assert rounds == [1, 1, 2]
    assert str(ran.requests[1].messages).count("changed") > 3
    assert ran.requests[2].messages == [*ran.messages, {"role": "user", "content": "and now?"}]
    assert "changed" not in str(ran.messages)


# acceptance: 48 (llm.before)
async def test_every_input_of_a_call_may_be_changed(shop: Shop) -> None:
    wanted = {"system_prompt": "Be brief.", "max_tokens": 7, "temperature": 0.5, "model": "other", "tools": None}

    def shape(ctx: Any) -> None:
        for name, value in wanted.items():
            setattr(ctx, name, value)

    ran = await shop.send([say("done"), say("again")], llm_before=shape)
    assert {name: getattr(ran.requests[0], name) for name in wanted} == wanted


# acceptance: 48 (llm.after)
async def test_a_reply_may_be_replaced_before_it_is_stored(shop: Shop) -> None:
    reply = LLMResponse(raw_text="better", content_text="better", finish_reason="stop")

    def replace(ctx: Any) -> None:
        ctx.output = reply

    ran = await shop.send([say("done"), say("again")], llm_after=replace)
    assert ran.result.final_text == ran.messages[-1]["content"] == "better"


# acceptance: 48 (llm.after)
async def test_ending_the_run_after_a_reply_keeps_its_text_and_drops_its_calls(shop: Shop) -> None:
    ran = await shop.send([calls(call("add", a=1), text="let me see"), say("again")], llm_after=giving(BREAK))
    assert (ran.result.status, ran.added, ran.tool_results) == ("completed", [], [])
    assert ran.messages[-1]["content"] == "let me see"
    assert not ran.messages[-1].get("tool_calls")


# acceptance: 48 (what ends a run)
@pytest.mark.parametrize("name", ["session_start", "round_start", "llm_before"])
async def test_ending_the_run_before_the_model_was_asked_gives_no_text(shop: Shop, name: str) -> None:
    ran = await shop.send([say("again")], **{name: giving(BREAK, reason="closed")})
    assert (ran.result.status, ran.result.final_text, len(ran.requests)) == ("completed", "", 1)


async def test_why_a_round_was_not_begun_is_told(shop: Shop) -> None:
    assert (await shop.send([say("again")], round_start=giving(BREAK, reason="closed"))).reasons()[0] == "closed"


# acceptance: 48 (round.start)
async def test_a_skipped_round_is_used_up_and_says_so(shop: Shop) -> None:
    ran = await shop.send([say("done"), say("again")], round_start=giving(SKIP))
    assert ran.result.final_text == "done"
    told = [(event.type, event.payload.get("skipped"), event.payload.get("kind")) for event in ran.events]
    assert ("round_completed", True, None) in told
    assert ("status_changed", None, "round_skipped") in told


# acceptance: 48 (session.start, round.start)
@pytest.mark.parametrize("name", ["session_start", "round_start"])
async def test_messages_put_in_place_are_shown_in_this_run_only(shop: Shop, name: str) -> None:
    def replace(ctx: Any) -> None:
        if ctx.send_index == 1:
            ctx.messages = [{"role": "user", "content": "something else"}]

    ran = await shop.send([say("done"), say("again")], **{name: replace})
    assert [message["content"] for message in ran.requests[0].messages] == ["something else"]
    assert [message["content"] for message in ran.requests[1].messages] == ["go", "done", "and now?"]


async def test_messages_without_the_result_of_a_call_are_not_put_in_place(shop: Shop) -> None:
    asked = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
    }

    def replace(ctx: Any) -> None:
        ctx.messages.append(asked)

    with pytest.raises(ValueError, match="c1"):
        await shop.send([say("never")], round_start=replace)


# acceptance: 48 (message.append)
async def test_a_message_may_be_rewritten_before_it_is_stored(shop: Shop) -> None:
    def shout(ctx: Any) -> None:
        ctx.message["content"] = ctx.message["content"].upper()

    ran = await shop.send([say("done"), say("again")], message_append=shout)
    assert [message["content"] for message in ran.messages] == ["GO", "DONE"]


async def test_the_first_user_row_cannot_be_dropped(shop: Shop) -> None:
    ran = await shop.send([say("done"), say("again")], message_append=lambda ctx: SKIP)
    assert [message["content"] for message in ran.messages] == ["go", "done"]


# acceptance: 48 (complete.decide)
async def test_an_answer_that_a_handler_does_not_accept_is_asked_for_again_a_bounded_number_of_times(shop: Shop) -> None:
    def more(ctx: Any) -> HookDirective:
        ctx.message = f"more, {ctx.vetoes}"
        return SKIP

    config = AgentLoopConfig(max_rounds=20)
    script = [say(str(n)) for n in range(20)]
    ran = await shop.send(script, config=config, complete_decide=more)
    assert ran.result.status == "completed"
    asked = [message["content"] for message in ran.messages if message["role"] == "user"]
    assert asked == ["go", *(f"more, {n}" for n in range(len(asked) - 1))]
    assert 1 < len(asked) <= 5


# acceptance: 48 (read-only points)
@pytest.mark.parametrize("name", ["session_end", "round_end", "tools_batch_after"])
async def test_a_read_only_point_changes_nothing(shop: Shop, name: str) -> None:
    def meddle(ctx: Any) -> HookDirective:
        ctx.messages.clear()
        return BREAK

    ran = await shop.send([*TOOL_ROUND, say("again")], **{name: meddle})
    assert (ran.result.status, ran.result.final_text, len(ran.messages)) == ("completed", "done", 4)


@pytest.mark.parametrize("name", ["session_start", "round_start", "llm_before", "llm_after", "round_decide", "tool_before", "tool_after"])
async def test_what_a_handler_raises_leaves_the_send_unchanged(shop: Shop, name: str) -> None:
    error = KeyError("mine")

    def raises(_: Any) -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await shop.send([*TOOL_ROUND], **{name: raises})
    assert caught.value is error


@pytest.mark.parametrize("name", ["session_start", "llm_before", "tool_before", "tool_after", "complete_decide"])
async def test_a_handler_that_cancels_itself_fails_as_any_other_and_its_cancel_is_nobody_elses(shop: Shop, name: str) -> None:
    async def cancelled(_: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match=f"a handler at {name.replace('_', '.')} cancelled itself"):
        await shop.send([*TOOL_ROUND], **{name: cancelled})


# acceptance: 51
async def test_loops_without_hooks_or_bus_own_fresh_ones(tmp_path: Path) -> None:
    one, two = [StatefulAgentLoop(llm=ScriptedLLM([say("hi")], strict=False), dsn=str(tmp_path / f"{n}.db")) for n in range(2)]
    heard: list[Any] = []
    one.hooks.register("llm.before", heard.append)
    one.event_bus.subscribe(None, heard.append)
    async with one, two:
        await two.run("hello")
        assert heard == []
        await one.run("hello")
        assert heard
