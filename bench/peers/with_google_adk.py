"""Google ADK: an `App` with `ResumabilityConfig`, `Runner` and `SqliteSessionService`, the model a subclass of `BaseLlm`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import script
from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from peer import main

WHO: Any = {"app_name": "peers", "user_id": "someone"}


class Scripted(BaseLlm):
    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        part = (llm_request.contents[-1].parts or [])[-1]
        said = script.answer("tool" if part.function_response else "user", part.text or "", lambda: _heard(llm_request))
        if isinstance(said, str):
            parts = [types.Part(text=said)]
        else:
            parts = [types.Part(function_call=types.FunctionCall(name=name, args=dict(arguments))) for name, arguments in said]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def _heard(llm_request: LlmRequest) -> int:
    return sum(content.role == "user" and bool(content.parts and content.parts[-1].text) for content in llm_request.contents)


class GoogleADK:
    async def open(self, folder: Path) -> None:
        agent = LlmAgent(name="assistant", model=Scripted(model="scripted"), tools=[script.look, script.fast, script.slow])
        app = App(name="peers", root_agent=agent, resumability_config=ResumabilityConfig(is_resumable=True))
        self._sessions = SqliteSessionService(str(folder / "app.db"))
        self._runner = Runner(app=app, session_service=self._sessions)
        self._known: set[str] = set()

    async def _run(self, session: str, **how: Any) -> str:
        text = ""
        async for event in self._runner.run_async(user_id="someone", session_id=session, **how):
            if event.is_final_response() and event.content and event.content.parts:
                text = event.content.parts[-1].text or ""
        return text

    async def send(self, session: str, text: str) -> str:
        if session not in self._known and await self._sessions.get_session(**WHO, session_id=session) is None:
            await self._sessions.create_session(**WHO, session_id=session)
        self._known.add(session)
        return await self._run(session, new_message=types.Content(role="user", parts=[types.Part(text=text)]))

    async def resume(self, session: str) -> str | None:
        stored = await self._sessions.get_session(**WHO, session_id=session)
        return await self._run(session, invocation_id=stored.events[-1].invocation_id) if stored else None

    async def history(self, session: str) -> list[tuple[str, str]]:
        stored = await self._sessions.get_session(**WHO, session_id=session)
        events = stored.events if stored else []
        return [_told(event.author, part) for event in events for part in (event.content.parts if event.content else None) or []]

    async def close(self) -> None:
        await self._runner.close()


def _told(author: str, part: types.Part) -> tuple[str, str]:
    if part.function_call:
        return "call", str(part.function_call.name)
    if part.function_response:
        return "tool", str(part.function_response.response)
    return ("user" if author == "user" else "assistant"), part.text or ""


if __name__ == "__main__":
    main(GoogleADK)
