"""Pydantic AI with DBOS: `agent.run` in a `@DBOS.workflow` with the `DBOSDurability` capability, the model its `FunctionModel`.

Pydantic AI brings no store on a disk; as in its chat example, the messages of a run are a row of JSON in a table of the program's own, here
written and read as steps of the workflow. Tools with effects are steps too, as its documentation advises.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import script
from dbos import DBOS, SetWorkflowID
from peer import main
from pydantic_ai import Agent, ModelMessagesTypeAdapter
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    last = messages[-1].parts[-1]
    role = "user" if isinstance(last, UserPromptPart) else "tool"
    said = script.answer(
        role, str(getattr(last, "content", "")), lambda: sum(isinstance(part, UserPromptPart) for m in messages for part in m.parts)
    )
    if isinstance(said, str):
        return ModelResponse(parts=[TextPart(said)])
    return ModelResponse(parts=[ToolCallPart(name, arguments) for name, arguments in said])


@DBOS.step()
async def fast(n: int) -> str:
    """Do something that is over at once."""
    return await script.fast(n)


@DBOS.step()
async def slow(n: int) -> str:
    """Do something that takes a while."""
    return await script.slow(n)


class Table:
    """The messages of each run of a session, in the order in which the runs ended."""

    def open(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, session TEXT, messages BLOB)")

    def messages(self, session: str) -> list[ModelMessage]:
        rows = self.db.execute("SELECT messages FROM runs WHERE session = ? ORDER BY id", (session,)).fetchall()
        return [message for (row,) in rows for message in ModelMessagesTypeAdapter.validate_json(row)]


TABLE = Table()
agent = Agent(FunctionModel(respond), name="assistant", tools=[script.look, fast, slow], capabilities=[DBOSDurability()])


@DBOS.step()
async def store(session: str, messages: bytes) -> None:
    TABLE.db.execute("INSERT INTO runs (session, messages) VALUES (?, ?)", (session, messages))


@DBOS.workflow()
async def one_send(session: str, text: str) -> str:
    result = await agent.run(text, message_history=TABLE.messages(session))
    await store(session, result.new_messages_json())
    return result.output


class PydanticAI:
    async def open(self, folder: Path) -> None:
        TABLE.open(folder / "messages.db")
        url = f"sqlite:///{folder / 'app.db'}"
        config: Any = {"name": "peers", "system_database_url": url, "log_level": "ERROR", "application_version": "1"}
        DBOS(config=config)
        DBOS.launch()
        self._sent = 0

    async def send(self, session: str, text: str) -> str:
        if not text.startswith("two"):
            return await one_send(session, text)
        with SetWorkflowID("the-killed-one"):
            return await one_send(session, text)

    async def resume(self, session: str) -> str | None:
        """`DBOS.launch` has begun to recover what was pending: wait for it."""
        handle = await DBOS.retrieve_workflow_async("the-killed-one")
        return str(await handle.get_result())

    async def history(self, session: str) -> list[tuple[str, str]]:
        parts = [part for message in TABLE.messages(session) for part in message.parts]
        roles = {UserPromptPart: "user", TextPart: "assistant", ToolReturnPart: "tool", ToolCallPart: "call"}
        return [(roles[type(part)], str(getattr(part, "content", ""))) for part in parts if type(part) in roles]

    async def close(self) -> None:
        DBOS.destroy()
        TABLE.db.close()


if __name__ == "__main__":
    main(PydanticAI)
