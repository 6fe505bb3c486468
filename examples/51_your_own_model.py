"""A model of your own: any object with `complete`. Streaming, tools, retries and budgets come from the loop."""

import asyncio
import re
from typing import Any

from power_loop import LLMRequest, LLMResponse, LLMService, LLMTokenUsage, StatefulAgentLoop, tool
from power_loop.contracts.messages import ToolCall


@tool(effects="pure")
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


class Calculator(LLMService):
    """Understands one sentence. Yours asks a server, a library in this process, or a colleague."""

    model = "calculator-1"

    async def complete(self, request: LLMRequest, *, on_chunk_delta_text: Any = None, **more: Any) -> LLMResponse:
        last = request.messages[-1]
        numbers = re.findall(r"\d+", str(last["content"]))
        usage = LLMTokenUsage(prompt=len(request.messages) * 10, completion=5)
        if last["role"] == "user" and len(numbers) == 2 and request.tools:
            call = ToolCall("call-1", "add", f'{{"a": {numbers[0]}, "b": {numbers[1]}}}')
            return LLMResponse(raw_text="", content_text="", tool_calls=[call.to_message()], finish_reason="tool_calls", token_usage=usage)
        text = f"That is {last['content']}." if last["role"] == "tool" else "I can add two numbers."
        for word in re.findall(r"\S+\s*", text):
            on_chunk_delta_text and on_chunk_delta_text(word)  # what is shown while it is written
        return LLMResponse(raw_text=text, content_text=text, finish_reason="stop", token_usage=usage)


async def main() -> None:
    async with StatefulAgentLoop(llm=Calculator(), dsn=":memory:", tools=[add]) as loop:
        session = await loop.new_session()
        async for event in loop.stream("What is 20 and 22?", session):
            print(event.delta, end="|" if event.delta else "")
            if event.type == "result":
                print("\n", event.result.status, event.result.tool_calls, "tool call,", event.result.usage.total_tokens, "tokens")
        print((await loop.send("Hello.", session)).final_text)


asyncio.run(main())
