"""What the tests of operations share: a store, loops on it whose models follow a script, and two tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop import AgentLoopConfig, LLMSummaryFold, SessionStore, StatefulAgentLoop, tool
from power_loop.config import ContextPolicy
from power_loop.providers.recording import request_json
from power_loop.testing import FunctionLLM, ScriptedLLM


@tool(effects="pure")
def look(at: str) -> str:
    """Look at something."""
    return f"{at} is fine"


@tool
def mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


def folding(**more: Any) -> AgentLoopConfig:
    """Folds all but the last send, and soon."""
    return AgentLoopConfig(context_tokens=300, context=ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1)), **more)


class Place:
    """One open store, with loops that come and go on it."""

    def __init__(self, engine: str, dsn: str, store: SessionStore) -> None:
        self.engine, self.dsn, self.store = engine, dsn, store
        self.loops: list[StatefulAgentLoop] = []
        self.tools = [look, mail]

    def loop(self, *script: Any, llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        loop = StatefulAgentLoop(llm=llm or ScriptedLLM(script), store=self.store, **{"tools": self.tools, **settings})
        self.loops.append(loop)
        return loop

    async def next_requests(self, session_id: str, verb: str = "send", **settings: Any) -> list[Any]:
        """What the model is asked when one more word is said (or the session resumed): all that a provider sees."""
        asked: list[Any] = []

        def answer(request: Any) -> str:
            asked.append(request_json(request))
            return "<summary>seen</summary>"

        loop = self.loop(llm=FunctionLLM(answer), **settings)
        await (loop.send("What next?", session_id) if verb == "send" else loop.resume(session_id))
        return asked

    async def said(self, *texts: str, **session: Any) -> str:
        """A session in which each of ``texts`` was answered."""
        loop = self.loop(*(f"answer {number}" for number in range(1, len(texts) + 1)))
        session_id = await loop.new_session(**session)
        for text in texts:
            await loop.send(text, session_id)
        return session_id

    async def requests_of(self, texts: Sequence[str]) -> list[Any]:
        """What a model is asked in a session in which these are said."""
        asked: list[Any] = []

        def answer(request: Any) -> str:
            asked.append(request_json(request))
            return f"answer {len(asked)}"

        loop = self.loop(llm=FunctionLLM(answer))
        session_id = await loop.new_session()
        for text in texts:
            await loop.send(text, session_id)
        return asked

    async def close(self) -> None:
        for loop in self.loops:
            await loop.aclose()

    async def count(self, sql: str, *params: Any) -> int:
        return (await self.store.database.read(sql.replace("{p}", self.store.table_prefix), params))[0][0]
