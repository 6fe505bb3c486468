"""Families of sessions: a parent whose tool has sub-agents do the work, and loops on one database as separate processes have them."""

from __future__ import annotations

from typing import Any

from power_loop import SessionStore, StatefulAgentLoop, ToolRun, tool
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say


@tool(name="delegate", effects="idempotent")
async def delegate(run: ToolRun, task: str, name: str) -> str:
    """Have a sub-agent do it."""
    child = f"{run.session_id}.{name}"
    if child not in [row.session_id for row in await run.store.list_children(run.session_id)]:
        await run.store.create_session(
            session_id=child, parent_session_id=run.session_id, spawn_tool_call_id=run.call_id, kind="subagent", lifecycle="linked"
        )
    result = await run.loop.send(task, child)
    return f"{result.status}: {result.final_text}"


def fan_out(tasks: list[str], **tokens: Any) -> Any:
    """A reply that hands each of ``tasks`` to a sub-agent of its own."""
    return calls(*(call("delegate", task=task, name=str(n)) for n, task in enumerate(tasks)), **tokens)


class Family:
    """One database, and loops on it as separate processes would have them."""

    def __init__(self, engine: str, dsn: str, shared: SessionStore | None) -> None:
        self.engine, self.dsn, self._shared = engine, dsn, shared
        self._loops: list[StatefulAgentLoop] = []

    def loop(self, *script: Any, llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        settings.setdefault("tools", [delegate])
        where: dict[str, Any] = {"store": self._shared} if self._shared is not None else {"dsn": self.dsn}
        loop = StatefulAgentLoop(llm=llm if llm is not None else ScriptedLLM(script), **where, **settings)
        self._loops.append(loop)
        return loop

    def answering(self, answers: dict[str, Any], **settings: Any) -> StatefulAgentLoop:
        """A loop whose model answers the last message by its text; a tool's result with a word of its own."""

        def answer(request: Any) -> Any:
            last = request.messages[-1]
            step = answers.get("results" if last["role"] == "tool" else last["content"], say("ok", prompt_tokens=10, completion_tokens=5))
            return step(request) if callable(step) else step

        return self.loop(llm=FunctionLLM(answer), **settings)

    async def store(self) -> SessionStore:
        return await (self._loops or [self.loop()])[0].ensure_store()

    async def rows(self, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        return sorted(await (await self.store()).database.read(f"SELECT {columns} FROM pl_{table}"))

    async def close(self) -> None:
        for loop in self._loops:
            await loop.aclose(drain_timeout_s=5.0)
        if self._shared is not None:
            await self._shared.close()
