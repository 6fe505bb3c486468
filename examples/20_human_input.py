"""Questions to people: tools that ask park their calls, siblings run on, and each answer comes from whichever process has it."""

import asyncio
from typing import Any

from power_loop import StatefulAgentLoop, request_user_input, tool
from power_loop.testing import ScriptedLLM, call, calls, respond

DSN = "questions.db"


@tool
def ask_guest(question: str) -> str:
    """Ask the guest something."""
    request_user_input(prompt=question, kind="text", metadata={"channel": "mail"})


@tool(effects="pure")
def free_rooms(city: str) -> int:
    """How many rooms are free."""
    return {"Rome": 3}.get(city, 0)


def loop_of(*script: Any) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=ScriptedLLM(script), dsn=DSN, tools=[ask_guest, free_rooms])


async def asks() -> tuple[str, list[dict[str, Any]]]:
    wanted = calls(
        call("ask_guest", question="How many nights?"), call("free_rooms", city="Rome"), call("ask_guest", question="With a dog?")
    )
    async with loop_of(wanted) as loop:
        session = await loop.new_session()
        result = await loop.send("Book a room in Rome.", session)
        print(result.status, "|", [question["prompt"] for question in result.pending_interactions])
        return session, result.pending_interactions


async def answers(session: str, interaction_id: str, value: Any, *script: Any) -> None:
    """Another process, whenever the answer comes."""
    async with loop_of(*script) as loop:
        result = await loop.submit_input(session, interaction_id, value, key=f"mail-{interaction_id}")
        print(result.status, "|", result.final_text or [question["prompt"] for question in result.pending_interactions])


said = respond(lambda request: "Noted: " + ", ".join(m["content"] for m in request.messages if m["role"] == "tool"))
waiting, (nights, dog) = asyncio.run(asks())
asyncio.run(answers(waiting, dog["interaction_id"], "yes"))
asyncio.run(answers(waiting, nights["interaction_id"], {"nights": 2}, said))
asyncio.run(answers(waiting, nights["interaction_id"], {"nights": 7}))  # a second click changes nothing
