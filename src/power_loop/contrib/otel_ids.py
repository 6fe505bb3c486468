"""Ids of spans that follow from what the spans tell of, so that several processes write to one trace.

A send that one process begins and another ends has a run in each. With `SendIds` on the tracer provider both runs are
in one trace, the later one below the first, though neither process knows of the other.
"""

from __future__ import annotations

import threading

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext

from power_loop.contrib.otel_spans import context_of

__all__ = ["SendIds"]


class SendIds(RandomIdGenerator):
    """Give it to ``TracerProvider(id_generator=…)``. Spans of others get random ids, as ever.

    Whether a trace is sampled follows from its id, for a sampler by ratio: so all processes decide alike.
    """

    def __init__(self) -> None:
        self._next = threading.local()

    def announce(self, session_id: str, send_index: int) -> None:
        """The span that this thread starts next is the first run of that send."""
        self._next.context = context_of(session_id, send_index)

    def generate_trace_id(self) -> int:
        announced = self._announced()
        return super().generate_trace_id() if announced is None else announced.trace_id

    def generate_span_id(self) -> int:
        announced = self._announced()
        self._next.context = None
        return super().generate_span_id() if announced is None else announced.span_id

    def forget(self) -> None:
        """Nothing is announced any more."""
        self._next.context = None

    def _announced(self) -> SpanContext | None:
        return getattr(self._next, "context", None)
