"""The GenAI client metrics: tokens, durations, time to the first chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Meter

from power_loop.contrib.otel_names import SECONDS, TOKENS, Names
from power_loop.contrib.otel_spans import Chat


class Meters:
    """The instruments of one bridge."""

    def __init__(self, meter: Meter, names: Names) -> None:
        self._names = names
        name = names.attribute
        self._token_type = name("gen_ai.token.type")

        def seconds(of: str, about: str) -> Any:
            return meter.create_histogram(name(of), unit="s", description=about, explicit_bucket_boundaries_advisory=SECONDS)

        self._tokens = meter.create_histogram(
            name("gen_ai.client.token.usage"),
            unit="{token}",
            description="Tokens of model calls",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._duration = seconds("gen_ai.client.operation.duration", "Duration of model calls")
        self._first_chunk = seconds("gen_ai.client.operation.time_to_first_chunk", "Time until a model begins to answer")
        self._tool = seconds("gen_ai.execute_tool.duration", "Duration of tool calls")

    def called(self, chat: Chat, told: Mapping[str, Any]) -> None:
        """A model call is over."""
        error, model = None if told["success"] else told["error_type"] or "_OTHER", told.get("response_model")
        about = chat.attributes
        if error or model:
            about = {**about, **self._names.attributes({"gen_ai.response.model": model, "error.type": error})}
        self._duration.record(told["duration_ms"] / 1000, about)
        if chat.first_chunk is not None:
            self._first_chunk.record(chat.first_chunk, about)

    def used(self, chat: Chat, usage: Mapping[str, Any]) -> None:
        """What it cost is known."""
        for kind, key in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            self._tokens.record(usage[key], {**chat.attributes, self._token_type: kind})

    def ran(self, tool: str, seconds: float, error: str | None) -> None:
        """A tool call is over."""
        about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "error.type": error}
        self._tool.record(seconds, self._names.attributes(about))
