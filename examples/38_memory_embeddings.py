"""A memory that recalls by meaning, with an embedding model on this machine: `pip install wordllama` (16 MB, no download at run time)."""

import asyncio
from pathlib import Path
from typing import Any

from power_loop import AgentLoopConfig, MemorySnapshot, StatefulAgentLoop, tag_as_memory
from power_loop.testing import ScriptedLLM

try:
    import wordllama
except ImportError:
    wordllama = None


class EmbeddingMemory:
    """Keeps what the user said, and recalls what is nearest in meaning to the newest question. A list will do for thousands."""

    def __init__(self, model: Any, nearest: int = 2) -> None:
        self.model, self.nearest = model, nearest
        self.said: list[str] = []

    async def recall(self, *, messages: list, session_id: str, budget_tokens: int = 1500) -> list:
        if len(self.said) < 2:  # nothing to choose among
            return [tag_as_memory(f"The user said earlier: {text}") for text in self.said]
        ranked = await asyncio.to_thread(self.model.rank, messages[-1]["content"], self.said)
        return [tag_as_memory(f"The user said earlier: {text}") for text, _ in ranked[: self.nearest]]

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        self.said += [message["content"] for message in snapshot.messages if message["role"] == "user"][-1:]


async def main(model: Any) -> None:
    llm = ScriptedLLM(["Noted."] * 3 + ["Anything without peanuts."])
    memory = EmbeddingMemory(model, nearest=1)
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=AgentLoopConfig(memory=memory)) as loop:
        for text in ("I am allergic to peanuts.", "My car is blue.", "I moved to Rome."):
            await loop.run(text)
        print((await loop.run("What may I eat for lunch?")).final_text)
    print("The model was shown:", llm.requests[-1].messages[-1]["content"])


if wordllama is None:
    print("No embedding model on this machine; with `pip install wordllama` this example finds things by meaning.")
else:
    # Its weights come with the package; the folder is named, so that it looks for nothing on the network.
    here = Path(wordllama.__file__).parent
    asyncio.run(main(wordllama.WordLlama.load(cache_dir=here, disable_download=True)))
