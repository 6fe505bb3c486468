"""What spans, attributes and metrics are called: OpenTelemetry's GenAI conventions, or names of our own.

Our own attributes stand under ``power_loop.`` in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

NameStyle = Literal["gen_ai", "power_loop"]

# https://github.com/open-telemetry/semantic-conventions-genai: the operation names of spans, and what stands behind them.
OPERATIONS = {"agent": "invoke_agent", "workflow": "invoke_workflow", "chat": "chat", "tool": "execute_tool"}
OWN_SPANS = {"agent": "session", "workflow": "workflow", "round": "round", "chat": "llm_call", "tool": "tool_call"}

# Histogram buckets as the conventions advise them: seconds, tokens.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

# Our providers under the names that the conventions give them.
PROVIDERS = {"xai": "x_ai", "mistral": "mistral_ai", "azure": "azure.ai.openai", "bedrock": "aws.bedrock", "gemini": "gcp.gemini"}

USAGE = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
# Said only where there is something to say.
DETAILS = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Names:
    """The names of one style; attributes are given in the words of the conventions."""

    def __init__(self, style: NameStyle) -> None:
        if style not in ("gen_ai", "power_loop"):
            raise ValueError(f"names is {style!r}; it may be 'gen_ai' or 'power_loop'")
        self.style = style

    def span(self, kind: str, what: str = "") -> str:
        """The name of a span: ``chat gpt-4o``, or ``power_loop.llm_call``."""
        if self.style == "power_loop":
            return f"power_loop.{OWN_SPANS[kind]}"
        return f"{OPERATIONS.get(kind, kind)} {what}".rstrip()

    def attributes(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``given`` without what is not known, under the names of this style."""
        known = {name: value for name, value in given.items() if value or (value is not None and value != "")}
        return known if self.style == "gen_ai" else {self.attribute(name): value for name, value in known.items()}

    def attribute(self, name: str) -> str:
        return f"power_loop.{name.removeprefix('gen_ai.')}" if self.style == "power_loop" and name.startswith("gen_ai.") else name


def provider_name(given: object) -> str:
    """The provider as the conventions name it; what they do not know keeps its own name."""
    name = str(given) if given else "unknown"
    return PROVIDERS.get(name, name)


def usage_attributes(usage: Mapping[str, Any]) -> dict[str, Any]:
    """One call's tokens."""
    return {name: usage[key] for key, name in USAGE.items() if key in usage and (usage[key] or key not in DETAILS)}
