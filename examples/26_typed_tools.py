"""Typed tools: enums, unions, dataclasses and TypedDicts arrive as what they are; results are JSON or pictures.

Offline with a scripted model: ``python examples/26_typed_tools.py``; with POWER_LOOP_API_KEY and _MODEL, a real one answers.
"""

import asyncio
import os
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, NotRequired, TypedDict

from power_loop import StatefulAgentLoop, ToolRun, create_llm_service_from_env, tool
from power_loop.testing import ScriptedLLM, call, calls, say

DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


class Unit(Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclass
class Place:
    lat: Annotated[float, "degrees north"]
    lon: Annotated[float, "degrees east"]


class Wish(TypedDict):
    days: Annotated[int, "how far ahead"]
    unit: NotRequired[Unit]


@tool(effects="pure")
def forecast(where: str | Place, wish: Wish) -> dict[str, Any]:
    """Forecast the weather."""
    return {"at": where, "days": wish["days"], "degrees": 68 if wish.get("unit") is Unit.FAHRENHEIT else 20}


@tool(effects="pure")
def radar(run: ToolRun) -> list[dict[str, Any]]:
    """Show the rain radar."""
    return [{"type": "text", "text": "No rain near."}, {"type": "image_url", "image_url": {"url": run.deps}}]


OFFLINE = [
    calls(call("forecast", where={"lat": 41.9, "lon": 12.5}, wish={"days": 2, "unit": "F"}), call("forecast", where="Rome", wish={})),
    call("radar"),
    say("Sunny, 68 degrees, and no rain near."),
]


async def main() -> None:
    model = create_llm_service_from_env() if os.environ.get("POWER_LOOP_API_KEY") else ScriptedLLM(OFFLINE)
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[forecast, radar], deps=DOT) as loop:
        session = await loop.new_session()
        await loop.send("How will it be in Rome?", session)
        for message in await loop.get_messages(session):
            print(f"{message['role']:>9}: {str(message['content'] or '(calls a tool)')[:120]}")


if __name__ == "__main__":
    asyncio.run(main())
