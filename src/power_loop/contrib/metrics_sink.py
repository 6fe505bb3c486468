"""Counters and durations of what a loop does, for any backend with `incr`, `observe` and `gauge`; two are here.

Each call, tool and round is counted at its end, once. Tokens come from `usage_updated`, which is durable and told once
per model call, so their sum is the ledger's.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from power_loop.contracts.events import AgentEvent, EventBusProtocol, EventHandler
from power_loop.contrib.seen import Seen
from power_loop.contrib.sink import Sink, only
from power_loop.contrib.statsd_client import GatheringClient

__all__ = ["MetricsBackend", "MetricsSink", "PrometheusBackend", "StatsDBackend", "attach_metrics_sink"]

Labels = Mapping[str, str]

# Names come from models and providers. A label of unbounded values would fill any metrics database.
VALUES_PER_LABEL = 100
OTHER = "other"

NAMES = (
    "llm_calls", "llm_call_duration_ms", "llm_retries", "tool_calls", "rounds", "errors", "usage_total_tokens", "usage_tokens",
    "running_sends",
)  # fmt: skip

# Milliseconds: from a cached answer to a model that thinks for minutes.
BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000)


class MetricsBackend(Protocol):
    """Where numbers go. One name always comes with the same labels."""

    def incr(self, name: str, value: float, labels: Labels) -> None: ...

    def observe(self, name: str, value: float, labels: Labels) -> None: ...

    def gauge(self, name: str, value: float, labels: Labels) -> None: ...


class MetricsSink(Sink):
    """What `attach_metrics_sink` gives: ``close()`` detaches it, ``errors`` counts what the backend refused."""

    def __init__(self, bus: EventBusProtocol, backend: MetricsBackend, prefix: str, events: Iterable[str] | None) -> None:
        self._backend, self._names = backend, {name: f"{prefix}_{name}" for name in NAMES}
        self._seen: Mapping[str, set[str]] = {"model": set(), "tool": set(), "error_type": set()}
        self._running: set[str | None] = set()
        self._lock = threading.Lock()
        self._counts: Mapping[str, EventHandler] = {
            "session_started": self._run,
            "session_ended": self._run,
            "llm_call_completed": self._llm_call,
            "llm_retry_attempted": lambda event: self._incr("llm_retries", 1, {}),
            "llm_degraded": self._error,
            "tool_call_completed": self._tool_call,
            "round_completed": lambda event: self._incr("rounds", 1, {}),
            "agent_error": self._error,
            "usage_updated": self._usage,
        }
        super().__init__(bus, lambda event: self._counts[event.type](event), only(events, self._counts))

    def _run(self, event: AgentEvent) -> None:
        with self._lock:
            (self._running.add if event.type == "session_started" else self._running.discard)(event.session_id)
            self._backend.gauge(self._names["running_sends"], len(self._running), {})

    def _llm_call(self, event: AgentEvent) -> None:
        told = event.payload
        model = self._label("model", told["model"])
        self._incr("llm_calls", 1, {"model": model, "success": _yes(told["success"])})
        self._backend.observe(self._names["llm_call_duration_ms"], told["duration_ms"], {"model": model})

    def _tool_call(self, event: AgentEvent) -> None:
        told = event.payload
        self._incr("tool_calls", 1, {"tool": self._label("tool", told["name"]), "success": _yes(told["outcome"] == "ok")})

    def _error(self, event: AgentEvent) -> None:
        self._incr("errors", 1, {"error_type": self._label("error_type", event.payload["error_type"])})

    def _usage(self, event: AgentEvent) -> None:
        usage: Mapping[str, int] = event.payload["usage"]
        read, written = usage["cache_read_tokens"], usage.get("cache_write_tokens", 0)
        self._incr("usage_total_tokens", usage["total_tokens"], {})
        self._incr("usage_tokens", max(0, usage["prompt_tokens"] - read - written), {"direction": "input", "cache": "none"})
        self._incr("usage_tokens", usage["completion_tokens"], {"direction": "output", "cache": "none"})
        if read:
            self._incr("usage_tokens", read, {"direction": "input", "cache": "read"})
        if written:
            self._incr("usage_tokens", written, {"direction": "input", "cache": "write"})

    def _incr(self, name: str, value: float, labels: Labels) -> None:
        self._backend.incr(self._names[name], value, labels)

    def _label(self, name: str, value: object) -> str:
        """``value`` as a label; what comes after the first hundred of its kind is told as one."""
        text = str(value) if value else "unknown"
        seen = self._seen[name]
        if text not in seen:
            with self._lock:
                if text not in seen and len(seen) >= VALUES_PER_LABEL:
                    return OTHER
                seen.add(text)
        return text


def attach_metrics_sink(
    bus: EventBusProtocol, backend: MetricsBackend, *, prefix: str = "power_loop", events: Iterable[str] | None = None
) -> MetricsSink:
    """Count what happens on ``bus`` in ``backend``, under names that begin with ``prefix``; of ``events`` only, if given.

    The names are ``_llm_calls``, ``_llm_call_duration_ms``, ``_llm_retries``, ``_tool_calls``, ``_rounds``, ``_errors``,
    ``_usage_total_tokens``, ``_usage_tokens`` and ``_running_sends``.
    """
    return MetricsSink(bus, backend, prefix, events)


def _yes(value: object) -> str:
    return "true" if value else "false"


# --- Prometheus ------------------------------------------------------------------------------------

# A registry takes each name once; several loops of a process count in the same metrics.
_registered: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
_registering = threading.Lock()


class PrometheusBackend:
    """Metrics of ``prometheus_client``, in its default registry or the one given. Needs the extra ``prometheus``.

    A counter shows as ``…_total``, a duration as a histogram in milliseconds.
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ImportError("PrometheusBackend needs prometheus_client: pip install 'power-loop[prometheus]'") from error
        self._client: Any = prometheus_client
        self.registry: Any = prometheus_client.REGISTRY if registry is None else registry
        with _registering:
            self._metrics: dict[str, Any] = _registered.setdefault(self.registry, {})
        self._found: dict[tuple[str, ...], Any] = {}
        """What counts under a name and labels."""

    def incr(self, name: str, value: float, labels: Labels) -> None:
        self._of("Counter", name, labels).inc(value)

    def observe(self, name: str, value: float, labels: Labels) -> None:
        self._of("Histogram", name, labels).observe(value)

    def gauge(self, name: str, value: float, labels: Labels) -> None:
        self._of("Gauge", name, labels).set(value)

    def _of(self, kind: str, name: str, labels: Labels) -> Any:
        key = (name, *labels, *labels.values()) if labels else (name,)
        found = self._found.get(key)
        if found is None:
            metric = self._metric(kind, name, labels)
            found = self._found[key] = metric.labels(**labels) if labels else metric
        return found

    def _metric(self, kind: str, name: str, labels: Labels) -> Any:
        with _registering:
            metric = self._metrics.get(name)
            if metric is None:
                more = {"buckets": BUCKETS_MS} if kind == "Histogram" else {}
                metric = getattr(self._client, kind)(name, name.replace("_", " "), tuple(labels), registry=self.registry, **more)
                self._metrics[name] = metric
            return metric


# --- StatsD ------------------------------------------------------------------------------------------

_NOT_IN_A_STAT, _NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+"), re.compile(r"[^A-Za-z0-9_.-]+")


class StatsDBackend:
    """Counters, timings and gauges to a StatsD server. Needs the extra ``statsd``, or a ``client`` of its interface.

    Without a ``client`` of the host's own, what comes within a twentieth of a second is added up and sent together, by a thread.
    StatsD has no labels: their values stand behind the name, in the order in which they are documented, as in
    ``power_loop_tool_calls.weather.true``.
    """

    def __init__(self, client: Any = None, host: str = "localhost", port: int = 8125) -> None:
        if client is None:
            try:
                import statsd  # pyright: ignore[reportMissingTypeStubs] - the package is published without types
            except ImportError as error:
                raise ImportError("StatsDBackend needs statsd, or a client: pip install 'power-loop[statsd]'") from error
            client = GatheringClient(statsd.StatsClient(host, port))
        self._client: Any = client
        self._stats = Seen(_stat)

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Have sent what was counted so far; False when ``timeout`` (seconds) ran out first.

        For a process that is frozen, or ends without Python's exit handlers, as a child of ``multiprocessing`` does.
        """
        return not isinstance(self._client, GatheringClient) or self._client.flush(timeout)

    def close(self) -> None:
        """Send what is left, and give the client's socket back."""
        self._client.close()

    def incr(self, name: str, value: float, labels: Labels) -> None:
        self._client.incr(self._stats[name, *labels.values()], value)

    def observe(self, name: str, value: float, labels: Labels) -> None:
        self._client.timing(self._stats[name, *labels.values()], value)

    def gauge(self, name: str, value: float, labels: Labels) -> None:
        self._client.gauge(self._stats[name, *labels.values()], value)


def _stat(name_and_values: tuple[str, ...]) -> str:
    name, *values = name_and_values
    return ".".join((_NOT_IN_A_NAME.sub("_", name), *(_NOT_IN_A_STAT.sub("_", value) or "_" for value in values)))
