"""A whole request as bytes, for loops that keep what they sent (``running.keep_requests``), and back."""

from __future__ import annotations

import json
import zlib
from typing import Any

from power_loop.contracts.json_text import writer
from power_loop.contracts.model import LLMRequest

SENT = ("messages", "system_prompt", "tools", "model", "temperature", "max_tokens", "tool_choice", "response_format", "extra")

_encode = writer(ascii_only=True, default=str)


def packed(request: LLMRequest) -> bytes:
    """Everything of ``request`` that its model is told. What has no JSON (a type, say) is kept as its text."""
    told = {name: value for name in SENT if (value := getattr(request, name)) not in (None, {})}
    return zlib.compress(_encode(told).encode("ascii"))


def unpacked(data: bytes) -> dict[str, Any]:
    """What was told, by the names of an `LLMRequest`; settings that were not set are missing."""
    return json.loads(zlib.decompress(data))
