"""Testing an agent: a model that follows a script and is strict about it, a store that dies, and no real call by accident."""

import asyncio

from power_loop import LLMError, StatefulAgentLoop, create_llm, tool
from power_loop.testing import ScriptedLLM, call, check_invariants, fail, forbid_model_calls, respond, say


@tool(effects="pure")
def price(item: str) -> float:
    """What an item costs."""
    return {"tea": 9.5}[item]


async def test_the_price_is_looked_up_and_told() -> None:
    model = ScriptedLLM([call("price", item="tea"), respond(lambda request: f"It costs {request.messages[-1]['content']}.")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[price]) as loop:
        assert (await loop.run("How much is tea?")).final_text == "It costs 9.5."
    model.assert_complete()  # a step that nobody asked for would be an error


async def test_an_unknown_item_is_a_failed_call_and_no_crash() -> None:
    model = ScriptedLLM([call("price", item="tee"), respond(lambda request: request.messages[-1]["content"])])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[price]) as loop:
        result = await loop.run("How much is tee?")
    assert result.status == "completed"
    assert "KeyError" in result.final_text


async def test_a_model_that_fails_leaves_a_session_that_goes_on() -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([fail(LLMError("down")), say("I am back.")]), dsn=":memory:") as loop:
        session = await loop.new_session()
        try:
            await loop.send("Hello?", session)
        except LLMError:
            assert (await loop.resume(session)).final_text == "I am back."
        assert await check_invariants(await loop.ensure_store()) == []


async def test_nobody_pays_for_a_test() -> None:
    with forbid_model_calls():
        real = create_llm("echo:")
        async with StatefulAgentLoop(llm=real, dsn=":memory:") as loop:  # echo needs no provider, so it may answer
            assert (await loop.run("Hello.")).status == "completed"


for name, test in list(globals().items()):  # pytest would do this
    if name.startswith("test_"):
        asyncio.run(test())
        print("passed:", name.removeprefix("test_").replace("_", " "))
