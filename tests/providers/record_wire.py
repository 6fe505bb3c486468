"""Record the wire streams of this folder from real servers: run by hand, with the addresses of both.

    python tests/providers/record_wire.py AIMOCK_URL LLAMA_URL

AIMOCK_URL is `aimock -f tests/providers/aimock.json -c 8 --strict`; LLAMA_URL a llama-server with any small model. What
comes out is committed as it is: the bytes of each answer, under the name of who spoke and what was asked.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

WIRE = Path(__file__).parent / "wire"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
OPENAI_TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": SCHEMA}}
ANTHROPIC_TOOL = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
USER = [{"role": "user", "content": "Weather?"}]


def record(name: str, url: str, body: dict[str, Any]) -> None:
    headers = {"content-type": "application/json", "authorization": "Bearer x", "x-api-key": "x", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(url, json.dumps({"stream": True, "messages": USER, **body}).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        (WIRE / f"{name}.sse").write_bytes(answer.read())


def main(aimock: str, llama: str) -> None:
    usage = {"stream_options": {"include_usage": True}}
    for model, tools in (("m-tools", True), ("m-text", False)):
        kind = model.removeprefix("m-")
        chat = {"model": model, **usage, **({"tools": [OPENAI_TOOL]} if tools else {})}
        record(f"aimock_chat_{kind}", f"{aimock}/v1/chat/completions", chat)
        record(
            f"aimock_messages_{kind}",
            f"{aimock}/v1/messages",
            {"model": model, "max_tokens": 99, **({"tools": [ANTHROPIC_TOOL]} if tools else {})},
        )
    # aimock answers with token details only under the address of OpenRouter
    record("aimock_chat_details", f"{aimock}/api/v1/chat/completions", {"model": "m-tools", **usage, "tools": [OPENAI_TOOL]})
    steered = {"model": "tiny", "seed": 3, "max_tokens": 90}
    for _ in range(2):  # the second time the prompt comes from the cache
        record("llama_chat_tools", f"{llama}/v1/chat/completions", {**steered, **usage, "tools": [OPENAI_TOOL], "tool_choice": "required"})
        record("llama_messages_tools", f"{llama}/v1/messages", {**steered, "tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}})


if __name__ == "__main__":
    main(*sys.argv[1:])
