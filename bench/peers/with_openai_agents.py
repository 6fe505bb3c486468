"""OpenAI Agents SDK: `Runner.run` with `SQLiteSession`, the model a subclass of its `Model`. Tracing is off: it asks a network.

Its `agents.testing.ScriptedModel` would copy the whole history deeply for its record of calls, which is no work of the library.
A session keeps the history of runs; its documentation names no way to go on with a run whose process died.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import script
from agents.testing import assistant_message, function_call
from peer import main

from agents import Agent, Model, ModelResponse, Runner, SQLiteSession, Usage, function_tool, set_tracing_disabled


class Scripted(Model):
    async def get_response(self, system_instructions: Any, input: Any, *arguments: Any, **named: Any) -> ModelResponse:
        items = input if isinstance(input, list) else [{"role": "user", "content": input}]
        said = script.answer(
            items[-1].get("role", "tool"), str(items[-1].get("content")), lambda: sum(i.get("role") == "user" for i in items)
        )
        if isinstance(said, str):
            return ModelResponse(output=[assistant_message(said)], usage=Usage(), response_id=None)
        calls = [function_call(name, arguments, call_id=f"call-{len(items)}-{n}") for n, (name, arguments) in enumerate(said)]
        return ModelResponse(output=calls, usage=Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError


class OpenAIAgents:
    async def open(self, folder: Path) -> None:
        set_tracing_disabled(True)
        self._path, self._sessions = folder / "app.db", {}
        tools = [function_tool(script.look), function_tool(script.fast), function_tool(script.slow)]
        self._agent = Agent(name="assistant", model=Scripted(), tools=tools)

    def _session(self, session: str) -> SQLiteSession:
        if session not in self._sessions:
            self._sessions[session] = SQLiteSession(session, self._path)
        return self._sessions[session]

    async def send(self, session: str, text: str) -> str:
        return str((await Runner.run(self._agent, text, session=self._session(session))).final_output)

    async def resume(self, session: str) -> str | None:
        return None

    async def history(self, session: str) -> list[tuple[str, str]]:
        items: list[Any] = list(await self._session(session).get_items())
        return [_told(item) for item in items]

    async def close(self) -> None:
        for session in self._sessions.values():
            session.close()


def _told(item: dict[str, Any]) -> tuple[str, str]:
    if item.get("type") == "function_call":
        return "call", item["name"]
    return item.get("role", "tool"), _text(item.get("content") or item.get("output"))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or [])


if __name__ == "__main__":
    main(OpenAIAgents)
