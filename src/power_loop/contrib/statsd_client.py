"""A StatsD client that sends what comes within a moment together: a busy process makes few datagrams, and no run waits for one."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from power_loop.contracts.forks import mind_forks
from power_loop.contrib.later import Later

# How long closing waits until all is sent, in seconds.
CLOSE_WAIT_S = 5.0


class GatheringClient:
    """In front of a client of the package ``statsd``: counts are added up, of a gauge the last value goes, of timings each.

    In a forked child it goes on with what comes there; what was not sent yet is the parent's.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._closed = False
        self._told: deque[tuple[str, str, float]] = deque()
        self._sender = Later("power-loop-statsd", self._told.__len__, self._send)
        mind_forks(self, in_child=GatheringClient._forget)

    def incr(self, stat: str, count: float) -> None:
        self._tell("incr", stat, count)

    def timing(self, stat: str, milliseconds: float) -> None:
        self._tell("timing", stat, milliseconds)

    def gauge(self, stat: str, value: float) -> None:
        self._tell("gauge", stat, value)

    def _forget(self) -> None:
        self._told.clear()

    def flush(self, timeout: float | None) -> bool:
        """Send what was told so far; False when ``timeout`` (seconds) ran out first."""
        return self._sender.flush(timeout)

    def close(self) -> None:
        """Send what is left, and give the socket back."""
        self._closed = True
        if self._sender.close(CLOSE_WAIT_S):
            self._client.close()

    def _tell(self, kind: str, stat: str, value: float) -> None:
        if self._closed:
            raise RuntimeError("this StatsD client is closed; make another one")
        self._told.append((kind, stat, value))
        self._sender.due()

    def _send(self) -> None:
        counts, gauges = defaultdict[str, float](int), dict[str, float]()
        with self._client.pipeline() as lines:
            for _ in range(len(self._told)):
                kind, stat, value = self._told.popleft()
                if kind == "incr":
                    counts[stat] += value
                elif kind == "gauge":
                    gauges[stat] = value
                else:
                    lines.timing(stat, value)
            for stat, count in counts.items():
                lines.incr(stat, count)
            for stat, value in gauges.items():
                lines.gauge(stat, value)
