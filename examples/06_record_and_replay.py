"""Record a run once, replay it offline for ever, and be told what changed when the prompt did.

Runs offline: the recorded model is a scripted one. In real life it is ``create_llm("openai:…")``, and the file is
committed beside the test that replays it. ``python examples/06_record_and_replay.py``
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import LLMService, StatefulAgentLoop
from power_loop.llm import RecordingLLM, ReplayLLM, ReplayMiss
from power_loop.testing import ScriptedLLM, call, forbid_model_calls, say


def population(city: str) -> int:
    """How many people live in a city."""
    return {"Paris": 2_100_000, "Rome": 2_800_000}[city]


async def answer(model: LLMService, question: str) -> str:
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[population]) as loop:
        return (await loop.run(question)).final_text


async def main() -> None:
    live = ScriptedLLM([call("population", city="Paris"), say("About 2.1 million.")])
    with tempfile.TemporaryDirectory() as folder, forbid_model_calls():
        tape = Path(folder) / "paris.jsonl"
        recorded = await answer(RecordingLLM(live, tape), "How many people live in Paris?")
        replay = ReplayLLM(tape)
        replayed = await answer(replay, "How many people live in Paris?")
        replay.assert_complete()
        print(f"recorded: {recorded}\nreplayed: {replayed}")
        assert replayed == recorded

        try:
            await answer(ReplayLLM(tape), "How many people live in Rome?")
        except ReplayMiss as miss:
            print(f"changed:  {miss}")
        else:
            raise AssertionError("a changed question must not be answered from the tape")


if __name__ == "__main__":
    asyncio.run(main())
