"""What one send may set for itself: tools, prompt, limits, rounds, dependencies. Per call comes before session, session before config."""

import asyncio

from power_loop import AgentLoopConfig, LLMRequest, StatefulAgentLoop, ToolNotFound, ToolRun, UsageLimits, tool
from power_loop.testing import FunctionLLM


def describe(request: LLMRequest) -> str:
    """Stands for a model: says what it was given."""
    tools = ", ".join(tool["function"]["name"] for tool in request.tools or ()) or "no tools"
    return f"{request.system_prompt!r} with {tools}"


@tool(effects="pure")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: sunny"


@tool(effects="pure")
def whoami(run: ToolRun) -> str:
    """Who asks: what the program hands in as deps is never stored."""
    return str(run.deps)


async def main() -> None:
    config = AgentLoopConfig(system_prompt="You are the default.", limits=UsageLimits(total_tokens=50_000))
    async with StatefulAgentLoop(llm=FunctionLLM(describe), dsn=":memory:", config=config, tools=[weather, whoami]) as loop:
        session = await loop.new_session(system_prompt="You are this session's own.")
        print(1, (await loop.send("Hello.", session)).final_text)
        print(2, (await loop.send("Hello.", session, tools=["weather"])).final_text)
        print(3, (await loop.send("Hello.", session, tools=[])).final_text)
        print(4, (await loop.send("Hello.", session, system_prompt="You are a pirate.")).final_text)
        print(5, (await loop.send("Hello.", session, limits=UsageLimits(requests=3), max_rounds=2, deps={"user": "ada"})).final_text)
        print(6, (await loop.send("Hello.", session)).final_text)  # nothing of that stays
        try:
            await loop.send("Hello.", session, tools=["wether"])
        except ToolNotFound as error:
            print(7, error)  # before anything was written


asyncio.run(main())
