"""Structured output: a value of your own type instead of text, asked for again when it is wrong, shown while it is written.

Runs offline with a scripted model: ``python examples/32_structured_output.py``. In real life the model is
``create_llm("openai:…")`` or ``create_llm("anthropic:…")``, and nothing else changes.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum

from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, say


class Mood(Enum):
    HAPPY = "happy"
    ANGRY = "angry"


@dataclass
class Review:
    """What a customer wrote, in short."""

    product: str
    stars: int
    mood: Mood


SCRIPT = [
    say('{"product": "kettle", "stars": "five", "mood": "happy"}'),  # wrong: the model is told, and answers again
    say('Sorry! ```json\n{"product": "kettle", "stars": 5, "mood": "happy"}\n```'),
    say('{"value": ["kettle", "cup"]}'),
]


async def main() -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM(SCRIPT), dsn=":memory:") as loop:
        session = await loop.new_session()
        result = await loop.send("Best kettle ever, five stars!", session, output_type=Review)
        print(result.output, f"after {result.rounds} rounds")
        assert result.output == Review("kettle", 5, Mood.HAPPY)

        for row in await loop.get_messages(session):
            print(f"  {row['role']}: {row['content']}")

        async for event in loop.stream("Which things does it name?", session, output_type=list[str]):
            if event.type == "stream_output":
                print("so far:", event.partial)
            elif event.type == "result":
                print("in the end:", event.result.output)


if __name__ == "__main__":
    asyncio.run(main())
