"""Ids of tool calls, as a wire takes them.

Another provider's ids stand in a session that has changed its model, and not every wire takes them back: one that does not
fit goes out as a digest of it, the same in the call, in its result and in every later request.
"""

from __future__ import annotations

import re
from hashlib import sha256

# What the Messages API demands of tool_use ids (docs.anthropic.com), and how long Chat Completions lets an id be.
ANTHROPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")
OPENAI = re.compile(r".{1,40}", re.DOTALL)


def fitting(call_id: str, wire: re.Pattern[str]) -> str:
    """``call_id``, or what stands for it on a wire that does not take it."""
    if wire.fullmatch(call_id):
        return call_id
    return "call_" + sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
