"""Agno: `Agent` with `SqliteDb`, the whole history in the context, ``checkpoint="tool-batch"`` as its page on crash recovery advises.

It brings no model for tests; this is a subclass of its model base class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import script
from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run.base import RunStatus
from peer import main


class Scripted(Model):
    def invoke(self, messages: list[Message], **kwargs: Any) -> ModelResponse:
        last = messages[-1]
        said = script.answer(last.role, str(last.content), lambda: sum(m.role == "user" for m in messages))
        if isinstance(said, str):
            return ModelResponse(role="assistant", content=said)
        calls = [
            {"id": f"call-{len(messages)}-{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(said)
        ]
        return ModelResponse(role="assistant", tool_calls=calls)

    async def ainvoke(self, messages: list[Message], **kwargs: Any) -> ModelResponse:
        return self.invoke(messages, **kwargs)

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def ainvoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return response


class Agno:
    async def open(self, folder: Path) -> None:
        self._agent = Agent(
            model=Scripted(id="scripted"), db=SqliteDb(db_file=str(folder / "app.db")), tools=[script.look, script.fast, script.slow],
            add_history_to_context=True, num_history_runs=100_000, checkpoint="tool-batch", telemetry=False,
        )  # fmt: skip

    async def send(self, session: str, text: str) -> str:
        run = await self._agent.arun(text, session_id=session)
        if run.status != RunStatus.completed:
            raise RuntimeError(f"the run is {run.status}: {run.content}")
        return str(run.content)

    async def resume(self, session: str) -> str | None:
        stored = self._agent.get_session(session_id=session)
        running = [run for run in (stored.runs if stored else None) or [] if run.status == RunStatus.running]
        if not running:
            raise LookupError("nothing of the run is stored")
        run: Any = await self._agent.acontinue_run(run_id=running[-1].run_id, session_id=session)
        return str(run.content)

    async def history(self, session: str) -> list[tuple[str, str]]:
        messages = await self._agent.aget_session_messages(session_id=session)
        found: list[tuple[str, str]] = []
        for message in messages:
            if message.role in ("user", "assistant", "tool") and message.content:
                found.append((message.role, str(message.content)))
            found += [("call", str(each["function"]["name"])) for each in message.tool_calls or []]
        return found

    async def close(self) -> None:
        pass


if __name__ == "__main__":
    main(Agno)
