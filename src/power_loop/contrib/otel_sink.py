"""The door to the OpenTelemetry sink: `attach_otel_sink`. Importing it loads nothing of OpenTelemetry; the extra ``otel`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from power_loop.contracts.events import EventBusProtocol
from power_loop.contrib.otel_names import Names, NameStyle

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

    from power_loop.contrib.otel_bridge import OtelSpanBridge
    from power_loop.contrib.otel_ids import SendIds

__all__ = ["OtelSpanBridge", "SendIds", "attach_otel_sink"]

MISSING = "the OpenTelemetry sink needs opentelemetry: pip install 'power-loop[otel]'"


def attach_otel_sink(
    bus: EventBusProtocol,
    *,
    tracer: Tracer | None = None,
    meter: Meter | None = None,
    capture_content: bool | None = None,
    names: NameStyle = "gen_ai",
) -> OtelSpanBridge:
    """Tell OpenTelemetry what happens on ``bus``: spans through ``tracer``, durations and tokens through ``meter``.

    Both come from the global providers by default. What was said is told only with ``capture_content=True``, or, where
    it is None, with ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true``; secrets in it are hidden.
    Raises `ImportError` where the extra ``otel`` is not installed.
    """
    chosen = Names(names)
    try:
        from power_loop.contrib.otel_bridge import OtelSpanBridge
    except ImportError as error:
        raise ImportError(MISSING) from error
    return OtelSpanBridge(bus, tracer=tracer, meter=meter, capture_content=capture_content, names=chosen)


def __getattr__(name: str) -> Any:
    if name not in ("OtelSpanBridge", "SendIds"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        if name == "SendIds":
            from power_loop.contrib.otel_ids import SendIds

            return SendIds
        from power_loop.contrib.otel_bridge import OtelSpanBridge

        return OtelSpanBridge
    except ImportError as error:
        raise ImportError(MISSING) from error
