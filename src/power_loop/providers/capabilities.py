"""What a service teaches by refusing: the next request leaves out, or says otherwise, what it would not take.

Declared capabilities are never second-guessed; only what is unknown is learned. Immutable: calls side by side each
have their own view, and a lesson is kept once a request that follows it was accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from power_loop.contracts.model import ModelCapabilities
from power_loop.providers.errors import Refusal

SchemaBy = Literal["native", "tool", "prompt"]
CapField = Literal["max_tokens", "max_completion_tokens"]

# "max_tokens: 64000 > 8192, which is the maximum allowed …", "supports at most 4096 completion tokens"
_LIMIT = re.compile(r">\s*(\d{3,7})\b|at most (\d{3,7})\b")


@dataclass(frozen=True, slots=True)
class Ways:
    """How one model of one service is asked."""

    without: frozenset[str] = frozenset()
    """Parameters that are left out."""
    cap_field: CapField = "max_tokens"
    max_output_tokens: int | None = None
    """The most that may be asked for."""
    schema_by: SchemaBy = "native"

    @classmethod
    def declared(cls, capabilities: ModelCapabilities) -> Ways:
        """What the declarations alone say."""
        without = frozenset({"temperature"}) if capabilities.temperature is False else frozenset[str]()
        cap_field: CapField = "max_completion_tokens" if capabilities.output_cap_field == "max_completion_tokens" else "max_tokens"
        schema_by: SchemaBy = "native"
        if capabilities.json_schema is False:
            schema_by = "prompt" if capabilities.tools is False else "tool"
        return cls(without, cap_field, capabilities.max_output_tokens, schema_by)

    def capped(self, max_tokens: int | None) -> int | None:
        """``max_tokens``, but not above what the model can do."""
        if max_tokens is None or self.max_output_tokens is None:
            return max_tokens
        return min(max_tokens, self.max_output_tokens)


def without_named(ways: Ways, refusal: Refusal, sent: Mapping[str, Any], capabilities: ModelCapabilities) -> Ways | None:
    """The same request without the dispensable parameter that the refusal names."""
    if refusal.status not in (400, 422):
        return None
    dispensable = ("stream_options",) if capabilities.temperature else ("temperature", "stream_options")
    named = next((name for name in dispensable if name in sent and refusal.names(name)), None)
    return None if named is None else replace(ways, without=ways.without | {named})


def with_other_cap_field(ways: Ways, refusal: Refusal, sent: Mapping[str, Any], capabilities: ModelCapabilities) -> Ways | None:
    """The same cap under the other name, where the refusal names the one that was sent."""
    if refusal.status not in (400, 422) or capabilities.output_cap_field is not None:
        return None
    if ways.cap_field not in sent or not refusal.names(ways.cap_field):
        return None
    return replace(ways, cap_field="max_completion_tokens" if ways.cap_field == "max_tokens" else "max_tokens")


def with_smaller_cap(ways: Ways, refusal: Refusal, sent: Mapping[str, Any]) -> Ways | None:
    """The documented maximum, which a provider names when it refuses more."""
    found = _LIMIT.search(refusal.text) if refusal.status == 400 and refusal.names("max_tokens") else None
    if found is None:
        return None
    limit = int(found.group(1) or found.group(2))
    return replace(ways, max_output_tokens=limit) if limit < sent["max_tokens"] else None


def with_other_schema(ways: Ways, refusal: Refusal, capabilities: ModelCapabilities) -> Ways | None:
    """The schema by the next lesser means: native, then a forced tool, then the prompt."""
    # Some servers answer 500 to a response format that they do not know.
    if capabilities.json_schema or refusal.status not in (400, 422, 500, 501):
        return None
    if ways.schema_by == "native" and refusal.names("response_format", "json_schema", "schema", "output_config", "output_format"):
        return replace(ways, schema_by="prompt" if capabilities.tools is False else "tool")
    if ways.schema_by == "tool" and refusal.names("tool_choice", "tools", "tool", "final_answer"):
        return replace(ways, schema_by="prompt")
    return None
