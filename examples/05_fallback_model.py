"""Two models as one: the second answers while the first is overloaded, and the reply says who spoke.

Runs offline with scripted models: ``python examples/05_fallback_model.py``. In real life the services are
``create_llm("anthropic:…")`` and ``create_llm("openai:…")``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentLoopConfig, LLMRetryPolicy, StatefulAgentLoop
from power_loop.errors import LLMError
from power_loop.llm import FallbackLLM
from power_loop.testing import ScriptedLLM, fail, say


async def main() -> None:
    first = ScriptedLLM([fail(LLMError("overloaded", status_code=529)), say("I am back.")], model="first-choice")
    second = ScriptedLLM([say("My colleague is busy; I can help.")], model="second-choice")
    model = FallbackLLM(first, second, cooldown_s=0)
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy())

    with tempfile.TemporaryDirectory() as folder:
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "chat.db"), config=config) as loop:
            session = await loop.new_session()
            for question in ("Hello?", "And now?"):
                result = await loop.send(question, session)
                print(f"{question} {result.final_text}")

    first.assert_complete()
    second.assert_complete()
    assert result.final_text == "I am back."


if __name__ == "__main__":
    asyncio.run(main())
