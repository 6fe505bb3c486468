"""power-loop: `StatefulAgentLoop` on SQLite."""

from __future__ import annotations

from pathlib import Path

import script
from peer import main

from power_loop import AgentLoopConfig, LLMRequest, StatefulAgentLoop, tool
from power_loop.testing import FunctionLLM, call, calls, say

SAID = ("user", "assistant", "tool")


def model(request: LLMRequest) -> object:
    last = request.messages[-1]
    said = script.answer(last["role"], str(last["content"]), lambda: sum(m["role"] == "user" for m in request.messages))
    return say(said) if isinstance(said, str) else calls(*(call(name, **arguments) for name, arguments in said))


class PowerLoop:
    async def open(self, folder: Path) -> None:
        tools = [tool(effects="pure")(script.look), tool(effects="once")(script.fast), tool(effects="once")(script.slow)]
        config = AgentLoopConfig(context_tokens=10_000_000)
        llm = FunctionLLM(model, keep_requests=False)
        self._loop = StatefulAgentLoop(llm=llm, dsn=f"sqlite:///{folder / 'app.db'}?synchronous=full", tools=tools, config=config)

    async def send(self, session: str, text: str) -> str:
        if not await self._loop.prewarm(session):
            await self._loop.new_session(session_id=session)
        return (await self._loop.send(text, session)).final_text

    async def resume(self, session: str) -> str | None:
        return (await self._loop.resume(session)).final_text

    async def history(self, session: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for message in await self._loop.get_messages(session):
            if message["role"] in SAID and message["content"]:
                found.append((message["role"], str(message["content"])))
            found += [("call", each["function"]["name"]) for each in message.get("tool_calls") or []]
        return found

    async def close(self) -> None:
        await self._loop.aclose()


if __name__ == "__main__":
    main(PowerLoop)
