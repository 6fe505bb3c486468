"""Pictures and files: content blocks are stored and sent as they are, in this send and in every later one."""

import asyncio
import base64
from pathlib import Path

from power_loop import LLMRequest, StatefulAgentLoop
from power_loop.testing import FunctionLLM

# A red pixel (PNG).
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def describe(request: LLMRequest) -> str:
    """Stands for a model: says which blocks reach it."""
    blocks = [block for message in request.messages if isinstance(message["content"], list) for block in message["content"]]
    return "I was sent: " + ", ".join(block["type"] for block in blocks)


async def main(picture: Path) -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(describe), dsn="images.db") as loop:
        session = await loop.new_session()
        result = await loop.send(
            [
                {"type": "text", "text": "What is in these pictures?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "attachment", "attachment": {"path": str(picture), "mime_type": "image/png", "kind": "image"}},
            ],
            session,
        )
        print(result.final_text)

        await asyncio.to_thread(picture.unlink)  # the bytes were read when they were said
        print((await loop.send("And once more?", session)).final_text)


pixel = Path("pixel.png")
pixel.write_bytes(base64.b64decode(PIXEL))
asyncio.run(main(pixel))
