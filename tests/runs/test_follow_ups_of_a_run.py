"""What is said to a session that runs: heard once, in its own row, never between a call and its result, never lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import FollowUpQueued, HookDirective, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, call, calls, hang, respond, say


def tagged(*texts: str) -> str:
    return "\n".join(f"<follow_up>\n{text}\n</follow_up>" for text in texts)


def users(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# acceptance: 26, 136 (while the model is asked)
async def test_what_is_said_while_the_model_thinks_is_answered_in_the_same_run(house: Any) -> None:
    async def think(_: Any) -> str:
        first = await loop.follow_up("and one more thing", session)
        second = await loop.follow_up("and another", session)
        assert isinstance(first, FollowUpQueued)
        assert (first.queue_depth, second.queue_depth) == (1, 2)
        return "first answer"

    loop = house.loop(respond(think), "both answered")
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.final_text, result.rounds, result.send_index) == ("both answered", 2, 1)
    messages = await loop.get_messages(session)
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert (messages[2]["content"], messages[2]["name"]) == (tagged("and one more thing", "and another"), "follow_up")
    assert await loop.inbox(session) == []
    assert [told["queue_depth"] for told in house.told("follow_up_queued")] == [1, 2]


# acceptance: 26 (whatever it passed itself)
async def test_a_word_to_a_running_send_is_heard_under_the_tools_and_the_prompt_of_that_send(house: Any) -> None:
    @tool(effects="pure")
    def look() -> str:
        """Look."""
        return "seen"

    @tool(effects="pure")
    def smell() -> str:
        """Smell."""
        return "smelt"

    async def think(_: Any) -> str:
        await loop.follow_up("and more", session, tools=["smell"], system_prompt="You smell.")
        return "first answer"

    loop = house.loop(respond(think), "both answered", "next", tools=[look, smell])
    session = await loop.new_session()
    await loop.send("go", session, tools=["look"], system_prompt="You look.")
    await loop.send("again", session)
    asked = [([each["function"]["name"] for each in request.tools], request.system_prompt) for request in loop.llm.requests]
    assert asked[:2] == [(["look"], "You look.")] * 2
    assert asked[2] == (["look", "smell"], await loop.resolve_system_prompt(session_id=session))


# acceptance: 26, 136 (while a tool runs)
async def test_what_is_said_while_a_tool_runs_comes_after_every_result_in_one_row(house: Any) -> None:
    @tool(effects="pure", parallel=True)
    async def work(n: int) -> str:
        """Work."""
        await loop.follow_up(f"said during {n}", session)
        await settle()
        return f"did {n}"

    loop = house.loop(calls(call("work", n=1), call("work", n=2)), "all heard", tools=[work])
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "all heard"
    messages = await loop.get_messages(session)
    check_pairs(messages)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user", "assistant"]
    assert messages[4]["content"] == tagged("said during 1", "said during 2")
    assert messages[4] == loop.llm.requests[1].messages[-1]


# acceptance: 136 (at every point of a run)
@pytest.mark.parametrize(
    "point",
    [
        *("session.start", "round.start", "llm.before", "llm.after", "message.append", "round.decide", "tools.batch.before", "tool.before"),
        *("tool.after", "tools.batch.after", "round.end", "complete.decide", "session.end"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
async def test_what_a_handler_posts_at_any_point_is_heard_exactly_once(house: Any, point: str, times: int) -> None:
    posted: list[str] = []

    async def posts(ctx: Any) -> None:
        if len(posted) < times:
            posted.append(f"word {len(posted)}")
            assert isinstance(await loop.follow_up(posted[-1], ctx.session_id), FollowUpQueued)

    def add(a: int) -> str:
        """Add."""
        return f"sum {a}"

    def answer(request: Any) -> Any:
        asked = any(message["role"] == "tool" for message in request.messages)
        return f"heard {[message['content'] for message in request.messages if message['role'] == 'user']}" if asked else call("add", a=1)

    loop = house.loop(llm=FunctionLLM(answer), tools=[add], on={point: posts})
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert result.status == "completed"
    messages = await loop.get_messages(session)
    check_pairs(messages)
    said = "".join(users(messages))
    assert posted
    assert all(said.count(f"<follow_up>\n{word}\n</follow_up>") == 1 for word in posted), users(messages)
    assert await loop.inbox(session) == []
    assert all(word in result.final_text for word in posted), "what was heard was answered in that run"


# acceptance: 136 (a run that does not end with an answer)
@pytest.mark.parametrize("ending", ["cancel", "break", "rounds"])
async def test_what_came_too_late_for_a_run_is_heard_by_the_next(house: Any, ending: str) -> None:
    def add(a: int) -> str:
        """Add."""
        return f"sum {a}"

    async def posts(ctx: Any) -> HookDirective | None:
        await loop.follow_up("do not forget me", ctx.session_id)
        return HookDirective.CANCEL if ending == "cancel" else HookDirective.BREAK if ending == "break" else None

    loop = house.loop(call("add", a=1), say("summary"), tools=[add], on={"tool.before": posts})
    loop.config.max_rounds = 1
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert result.status == {"cancel": "cancelled", "break": "completed", "rounds": "hit_round_limit"}[ending]
    check_pairs(await loop.get_messages(session))
    cold = house.loop("at last")
    await cold.send("next", session)
    asked = "".join(users(cold.llm.requests[0].messages))
    assert asked.count("do not forget me") == 1
    assert asked.index("do not forget me") < asked.rindex("next")


# acceptance: 136 (the run is cut off)
async def test_what_was_posted_to_a_run_that_is_cut_off_is_not_lost(house: Any) -> None:
    loop = house.loop(hang())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    await loop.follow_up("do not forget me", session)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    cold = house.loop("heard")
    assert (await cold.resume(session)).final_text == "heard"
    assert users(await cold.get_messages(session)) == ["go", tagged("do not forget me")]


# acceptance: 136 (a handler balks at the word)
async def test_a_word_that_a_handler_balks_at_waits_for_the_next_run(house: Any) -> None:
    def balks(ctx: Any) -> None:
        if ctx.message["name"] == "follow_up":
            raise KeyError("mine")

    async def think(_: Any) -> str:
        await loop.follow_up("do not forget me", session)
        return "answer"

    loop = house.loop(respond(think), on={"message.append": balks})
    session = await loop.new_session()
    with pytest.raises(KeyError):
        await loop.send("go", session)
    cold = house.loop("heard")
    await cold.resume(session)
    said = "".join(users(await cold.get_messages(session)))
    if "do not forget me" not in said:
        await house.loop("heard").send("next", session)
        said = "".join(users(await cold.get_messages(session)))
    assert said.count("do not forget me") == 1


async def test_a_word_that_a_handler_drops_is_gone_for_good(house: Any) -> None:
    def drops(ctx: Any) -> HookDirective | None:
        return HookDirective.SKIP if ctx.message["name"] == "follow_up" else None

    async def think(_: Any) -> str:
        await loop.follow_up("drop me", session)
        return "answer"

    loop = house.loop(respond(think), on={"message.append": drops})
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "answer"
    assert users(await loop.get_messages(session)) == ["go"]
    assert await loop.inbox(session) == []


async def test_the_same_key_is_heard_once(house: Any) -> None:
    async def think(_: Any) -> str:
        first = await loop.follow_up("once", session, key="k")
        again = await loop.follow_up("once", session, key="k")
        assert (first.duplicate, again.duplicate) == (False, True)
        assert first.item_id == again.item_id
        return "answer"

    loop = house.loop(respond(think), "both")
    session = await loop.new_session()
    await loop.send("go", session)
    assert users(await loop.get_messages(session)) == ["go", tagged("once")]


# acceptance: 136 (from another loop on the same database)
async def test_a_word_from_next_door_is_heard_by_the_run(house: Any) -> None:
    other = house.loop()

    async def think(_: Any) -> str:
        assert isinstance(await other.follow_up("from next door", session), FollowUpQueued)
        return "answer"

    loop = house.loop(respond(think), "both")
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "both"
    assert users(await loop.get_messages(session)) == ["go", tagged("from next door")]


async def test_to_a_session_at_rest_a_follow_up_is_a_send(house: Any) -> None:
    loop = house.loop("one", "two")
    session = await loop.new_session()
    first = await loop.follow_up("go", session)
    second = await loop.follow_up("on", session)
    assert [getattr(result, "send_index", None) for result in (first, second)] == [1, 2]
    assert users(await loop.get_messages(session)) == ["go", "on"]


# acceptance: 136 (at every step of the run)
async def test_a_word_at_any_step_of_the_event_loop_is_heard_exactly_once(house: Any) -> None:
    for steps in range(80):
        loop = house.loop(llm=FunctionLLM(lambda request: f"heard {len(users(request.messages))}"))
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("go", session))
        for _ in range(steps):
            await asyncio.sleep(0)
        answer = await loop.follow_up("also this", session)
        await sending
        said = users(await loop.get_messages(session))
        assert "".join(said).count("also this") == 1, (steps, answer, said)
        assert await loop.inbox(session) == []
        assert (await loop.get_messages(session))[-1]["role"] == "assistant", "everything said is answered"


async def test_words_left_for_a_fresh_session_begin_its_first_send(house: Any) -> None:
    loop = house.loop("answer", "more")
    session = await loop.new_session()
    await loop.enqueue("left before", session)
    result = await loop.resume(session)
    assert (result.status, result.final_text, result.send_index) == ("completed", "answer", 1)
    assert "left before" in "".join(users(await loop.get_messages(session)))
    await loop.enqueue("left after", session)
    again = await loop.resume(session)
    assert (again.status, again.final_text, again.send_index) == ("completed", "more", 2)
