"""LangGraph: `create_agent` of LangChain with `AsyncSqliteSaver`, the model a subclass of its chat model base class.

``durability="sync"`` is what its documentation names for the highest durability; SQLite's own default is synchronous=FULL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import script
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from peer import main

ROLES = {"human": "user", "ai": "assistant", "tool": "tool"}


class Scripted(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Scripted:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        said = script.answer(
            ROLES.get(messages[-1].type, "tool"), str(messages[-1].content), lambda: sum(m.type == "human" for m in messages)
        )
        if isinstance(said, str):
            message = AIMessage(said)
        else:
            calls = [{"name": name, "args": arguments, "id": f"call-{len(messages)}-{n}"} for n, (name, arguments) in enumerate(said)]
            message = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


class LangGraph:
    async def open(self, folder: Path) -> None:
        self._opened = AsyncSqliteSaver.from_conn_string(str(folder / "app.db"))
        saver = await self._opened.__aenter__()
        tools = [tool(script.look), tool(script.fast), tool(script.slow)]
        self._agent = create_agent(Scripted(), tools, checkpointer=saver)

    async def _invoke(self, said: Any, session: str) -> str:
        config: Any = {"configurable": {"thread_id": session}}
        state = await self._agent.ainvoke(said, config, durability="sync")
        return str(state["messages"][-1].content)

    async def send(self, session: str, text: str) -> str:
        return await self._invoke({"messages": [{"role": "user", "content": text}]}, session)

    async def resume(self, session: str) -> str | None:
        return await self._invoke(None, session)

    async def history(self, session: str) -> list[tuple[str, str]]:
        state = await self._agent.aget_state({"configurable": {"thread_id": session}})
        found: list[tuple[str, str]] = []
        for message in state.values.get("messages", []):
            if message.content:
                found.append((ROLES[message.type], str(message.content)))
            found += [("call", each["name"]) for each in getattr(message, "tool_calls", [])]
        return found

    async def close(self) -> None:
        await self._opened.__aexit__(None, None, None)


if __name__ == "__main__":
    main(LangGraph)
