"""`ModelRetry`: what to change is told to the model, as often as the tool allows; then the tool is left alone for this send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import AgentHooks, HookPoint, ModelRetry, ToolDefinition
from power_loop.contracts.records import ToolReturned
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say

AGAIN = "guess failed too often and will not be tried again for this request; go on without it."


class Guesses:
    """A tool that is never content."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    def tool(self, retries: int, **more: Any) -> tuple[ToolDefinition, Any]:
        async def guess(n: int) -> str:
            self.ran.append(n)
            if n < 100:
                raise ModelRetry(f"{n} is too low")
            return f"{n} it is"

        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        return ToolDefinition("guess", "Guess.", schema, retries=retries, effects="pure", **more), guess


@pytest.fixture
def guesses() -> Guesses:
    return Guesses()


async def rounds(loop: Any, session: str) -> list[str]:
    return [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]


# acceptance: 127
@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_so_often_it_may_be_tried_again_and_then_it_is_not_run(till_bank: Any, till: Any, guesses: Guesses, retries: int) -> None:
    llm = ScriptedLLM([*(call("guess", n=n) for n in range(retries + 3)), say("I give up")])
    loop = await till_bank.loop(till, llm=llm, tools=[guesses.tool(retries)])
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, guesses.ran) == ("completed", list(range(retries + 1)))
    told = await rounds(loop, session)
    assert told[:retries] == [f"{n} is too low" for n in range(retries)]
    assert told[retries] == f"{retries} is too low\n{AGAIN}"
    assert told[retries + 1 :] == [f"Error: it was not run. {AGAIN}"] * 2
    outcomes = [(each["outcome"], each["failed"]) for each in till_bank.told("tool_call_completed")]
    assert outcomes == [("failed", True)] * (retries + 3)
    assert result.tool_calls == retries + 1
    assert {len(request.tools) for request in llm.requests} == {1}, "the tool list stays as it is"


async def test_a_success_does_not_give_tries_back_and_the_next_send_starts_anew(till_bank: Any, till: Any, guesses: Guesses) -> None:
    tries = [call("guess", n=n) for n in (1, 100, 2, 100)]
    llm = ScriptedLLM([*tries, say("so far"), call("guess", n=3), say("done")])
    loop = await till_bank.loop(till, llm=llm, tools=[guesses.tool(1)])
    session = await loop.new_session()
    await loop.send("go", session)
    assert guesses.ran == [1, 100, 2]
    await loop.send("again", session)
    assert guesses.ran == [1, 100, 2, 3]


async def test_other_failures_do_not_count(till_bank: Any, till: Any, guesses: Guesses) -> None:
    llm = ScriptedLLM([call("guess", n="one"), call("guess", n="two"), call("guess", n=1), call("guess", n=100), say("done")])
    loop = await till_bank.loop(till, llm=llm, tools=[guesses.tool(1)])
    await loop.run("go")
    assert guesses.ran == [1, 100]


async def test_one_tool_that_is_given_up_leaves_the_others_alone(till_bank: Any, till: Any, guesses: Guesses) -> None:
    both = calls(call("guess", n=2), call("look", at="Rome"))
    llm = ScriptedLLM([call("guess", n=1), both, say("done")])
    loop = await till_bank.loop(till, llm=llm, tools=[guesses.tool(0), *till.tools()])
    await loop.run("go")
    assert (guesses.ran, till.looked) == ([1], ["Rome"])


# acceptance: 127 (a resumed send goes on counting)
async def test_the_count_survives_the_process(bank: Any, till: Any, guesses: Guesses) -> None:
    asked = asyncio.Event()

    async def answer(request: Any) -> Any:
        failed = sum(message["role"] == "tool" for message in request.messages)
        if failed == 2 and not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return call("guess", n=failed) if failed < 3 else "done"

    loop = await bank.loop(till, llm=FunctionLLM(answer), tools=[guesses.tool(1)])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asked.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    other = await bank.loop(till, llm=FunctionLLM(answer), tools=[guesses.tool(1)])
    assert (await other.resume(session)).final_text == "done"
    assert guesses.ran == [0, 1]
    marked = [record.retry for record in await bank.records(other, session, ToolReturned)]
    assert marked == [True, True, False]


@pytest.mark.parametrize("point", [HookPoint.TOOL_BEFORE, HookPoint.TOOL_AFTER, HookPoint.TOOL_ERROR])
async def test_a_hook_may_say_it_too(till_bank: Any, till: Any, guesses: Guesses, point: HookPoint) -> None:
    def complain(ctx: Any) -> None:
        raise ModelRetry("not like this")

    async def fails(n: int) -> str:
        guesses.ran.append(n)
        if point == HookPoint.TOOL_ERROR:
            raise OSError("no")
        return "fine"

    hooks = AgentHooks()
    hooks.register(point, complain)
    definition, _ = guesses.tool(1)
    llm = ScriptedLLM([*(call("guess", n=n) for n in range(3)), say("done")])
    loop = await till_bank.loop(till, llm=llm, tools=[(definition, fails)], hooks=hooks)
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "completed"
    told = await rounds(loop, session)
    assert told[:2] == ["not like this", f"not like this\n{AGAIN}"]
    assert guesses.ran == ([] if point == HookPoint.TOOL_BEFORE else [0, 1])
    if point != HookPoint.TOOL_BEFORE:
        assert told[2] == f"Error: it was not run. {AGAIN}"


async def test_a_hook_that_makes_the_result_good_makes_it_count_for_nothing(till_bank: Any, till: Any, guesses: Guesses) -> None:
    def soothe(ctx: Any) -> None:
        ctx.failed, ctx.output = False, "good enough"

    hooks = AgentHooks()
    hooks.register(HookPoint.TOOL_AFTER, soothe)
    llm = ScriptedLLM([*(call("guess", n=n) for n in range(3)), say("done")])
    loop = await till_bank.loop(till, llm=llm, tools=[guesses.tool(0)], hooks=hooks)
    await loop.run("go")
    assert guesses.ran == [0, 1, 2]
