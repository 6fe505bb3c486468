"""Numbers to any backend, each thing counted once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from power_loop import AgentEvent, AgentEventBus
from power_loop.contrib.metrics_sink import OTHER, PrometheusBackend, StatsDBackend, attach_metrics_sink
from power_loop.testing import call, calls, say


class Numbers:
    """A backend of the host's: any object with three methods."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.observed: list[tuple[str, float, dict[str, str]]] = []
        self.gauges: dict[str, float] = {}

    def incr(self, name: str, value: float, labels: Any) -> None:
        key = name, tuple(sorted(labels.items()))
        self.counters[key] = self.counters.get(key, 0) + value

    def observe(self, name: str, value: float, labels: Any) -> None:
        self.observed.append((name, value, dict(labels)))

    def gauge(self, name: str, value: float, labels: Any) -> None:
        self.gauges[name] = value


# acceptance: 62
async def test_the_sink_drives_any_object_with_incr_observe_and_gauge(stage: Any) -> None:
    numbers = Numbers()
    sink = attach_metrics_sink(stage.bus, numbers, prefix="mine")
    loop = stage.loop(calls(call("look", at="a"), call("break_it"), prompt_tokens=9, completion_tokens=1), say("done"), say("more"))
    result = await loop.run("go")
    tools = {key: value for key, value in numbers.counters.items() if key[0] == "mine_tool_calls"}
    assert tools == {
        ("mine_tool_calls", (("success", "true"), ("tool", "look"))): 1,
        ("mine_tool_calls", (("success", "false"), ("tool", "break_it"))): 1,
    }
    assert numbers.counters["mine_usage_total_tokens", ()] == result.usage["total_tokens"]
    assert numbers.counters["mine_rounds", ()] == 2
    assert [name for name, _, _ in numbers.observed] == ["mine_llm_call_duration_ms"] * 2
    assert numbers.gauges == {"mine_running_sends": 0}
    before = dict(numbers.counters)
    sink.close()
    await loop.run("go on")
    assert numbers.counters == before


def test_only_the_types_that_are_counted_are_built() -> None:
    bus = AgentEventBus()
    attach_metrics_sink(bus, Numbers())
    assert bus.wants("usage_updated")
    assert not bus.wants("stream_delta")
    assert not bus.wants("message_appended")
    other = AgentEventBus()
    attach_metrics_sink(other, Numbers(), events=["usage_updated", "stream_delta"])
    assert other.wants("usage_updated")
    assert not other.wants("stream_delta")
    assert not other.wants("tool_call_completed")


def test_names_that_a_model_makes_up_do_not_fill_the_database() -> None:
    bus, numbers = AgentEventBus(), Numbers()
    attach_metrics_sink(bus, numbers)
    for n in range(500):
        bus.publish(AgentEvent("tool_call_completed", {"name": f"tool{n % 250}", "outcome": "failed"}))
    values = {dict(labels)["tool"] for _, labels in numbers.counters}
    assert len(values) == 101
    assert OTHER in values
    assert sum(numbers.counters.values()) == 500


# acceptance: 58 (a missing backend)
@pytest.mark.usefixtures("caplog")
async def test_a_backend_that_raises_is_counted_and_disturbs_no_run(stage: Any) -> None:
    class Down:
        def __getattr__(self, name: str) -> Callable[..., None]:
            raise ConnectionError("no backend")

    sink = attach_metrics_sink(stage.bus, Down())
    assert (await stage.loop(say("done")).run("go")).status == "completed"
    assert sink.errors > 3
    assert stage.bus.errors == 0


# --- Prometheus ---------------------------------------------------------------------------------------------


def test_several_loops_count_in_one_registry() -> None:
    registry = CollectorRegistry()
    for _ in range(3):
        bus = AgentEventBus()
        sink = attach_metrics_sink(bus, PrometheusBackend(registry))
        bus.publish(AgentEvent("round_completed", {}))
        assert sink.errors == 0
    assert registry.get_sample_value("power_loop_rounds_total") == 3


def test_labels_count_by_their_names_in_whatever_order_they_come() -> None:
    registry = CollectorRegistry()
    backend = PrometheusBackend(registry)
    backend.incr("n", 1, {"tool": "a", "success": "b"})
    backend.incr("n", 2, {"success": "a", "tool": "b"})
    backend.incr("n", 4, {"success": "b", "tool": "a"})
    assert registry.get_sample_value("n_total", {"tool": "a", "success": "b"}) == 5
    assert registry.get_sample_value("n_total", {"tool": "b", "success": "a"}) == 2


# --- StatsD -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Datagrams that were sent to it wait there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


def backend_of(server: socket.socket) -> StatsDBackend:
    return StatsDBackend(host="127.0.0.1", port=server.getsockname()[1])


def datagrams(server: socket.socket) -> list[str]:
    told: list[str] = []
    with suppress(BlockingIOError):
        while True:
            told.append(server.recv(4096).decode())
    return told


def stats(server: socket.socket) -> list[tuple[str, str]]:
    """Names and values."""
    return [(name, value) for each in datagrams(server) for name, value in [line.split(":") for line in each.splitlines()]]


# acceptance: 62 (StatsD)
async def test_statsd_gets_counters_timings_and_gauges_over_udp(stage: Any, server: socket.socket) -> None:
    backend = backend_of(server)
    sink = attach_metrics_sink(stage.bus, backend)
    result = await stage.loop(call("look", at="a"), say("done")).run("go")
    backend.close()
    told = stats(server)
    assert sink.errors == 0
    counts = Counter[str]()
    for name, value in told:
        counts[name] += int(value.removesuffix("|c")) if value.endswith("|c") else 0
    assert counts["power_loop_tool_calls.look.true"] == 1
    assert counts["power_loop_rounds"] == 2
    assert counts["power_loop_usage_total_tokens"] == result.usage["total_tokens"]
    assert sum(name.startswith("power_loop_llm_call_duration_ms.") and value.endswith("|ms") for name, value in told) == 2
    assert told[-1] == ("power_loop_running_sends", "0|g")


def test_what_comes_at_once_reaches_statsd_added_up_and_all_of_it(server: socket.socket) -> None:
    backend = backend_of(server)
    for n in range(300):
        backend.incr("count", 2, {})
        backend.gauge("level", n, {})
    backend.observe("ms", 1.5, {})
    backend.observe("ms", 2.5, {})
    assert backend.flush()
    told = stats(server)
    assert sum(int(value.removesuffix("|c")) for name, value in told if name == "count") == 600
    assert [value for name, value in told if name == "ms"] == ["1.500000|ms", "2.500000|ms"]
    assert [value for name, value in told if name == "level"][-1] == "299|g"
    assert len(told) < 30, "of 602"
    backend.close()


def test_numbers_go_to_statsd_without_anybody_asking_and_when_the_program_ends(server: socket.socket) -> None:
    backend = backend_of(server)
    backend.incr("n", 1, {})
    server.settimeout(100)
    assert server.recv(100) == b"n:1|c"
    backend.close()
    code = (
        "import sys\nfrom power_loop.contrib.metrics_sink import StatsDBackend\n"
        "StatsDBackend(host='127.0.0.1', port=int(sys.argv[1])).incr('last', 1, {})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(server.getsockname()[1])], check=True)
    assert server.recv(100) == b"last:1|c"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_a_forked_child_counts_on_and_repeats_nothing_of_its_parents(server: socket.socket) -> None:
    code = (
        "import os, sys\nfrom power_loop.contrib.metrics_sink import StatsDBackend\n"
        "backend = StatsDBackend(host='127.0.0.1', port=int(sys.argv[1]))\n"
        "backend.incr('parents', 1, {}); backend.flush(); backend.incr('parents', 1, {})\n"
        "pid = os.fork()\n"
        "if not pid: backend.incr('childs', 1, {})\n"
        "backend.close()\n"
        "if pid: sys.exit(os.waitpid(pid, 0)[1])\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(server.getsockname()[1])], check=True)
    assert sorted(stats(server)) == [("childs", "1|c"), ("parents", "1|c"), ("parents", "1|c")]


def test_labels_cannot_break_a_stat_apart() -> None:
    class Client:
        stats: ClassVar[list[str]] = []

        def incr(self, stat: str, value: float) -> None:
            self.stats.append(stat)

    backend = StatsDBackend(Client())
    backend.incr("n", 1, {"tool": "a.b:1|c\nx", "model": "", "success": "true"})
    backend.incr("größe.n\n", 1, {})
    assert Client.stats == ["n.a_b_1_c_x._.true", "gr_e.n_"]


# --- missing extras ---------------------------------------------------------------------------------------------


# acceptance: 7 (sinks)
@pytest.mark.parametrize(("extra", "module"), [("prometheus", "prometheus_client"), ("statsd", "statsd"), ("otel", "opentelemetry")])
def test_a_missing_extra_is_named_at_the_call(monkeypatch: pytest.MonkeyPatch, extra: str, module: str) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == module or name.startswith(("power_loop.contrib.otel_", "power_loop.contrib.metrics_")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    from power_loop.contrib import metrics_sink, otel_sink  # after the extra is gone: importing them must not need it

    use: dict[str, Callable[[], object]] = {
        "prometheus": metrics_sink.PrometheusBackend, "statsd": metrics_sink.StatsDBackend,
        "otel": lambda: otel_sink.attach_otel_sink(AgentEventBus()),
    }  # fmt: skip
    with pytest.raises(ImportError, match=rf"pip install 'power-loop\[{extra}\]'"):
        use[extra]()
    if extra == "otel":
        with pytest.raises(ImportError, match="otel"):
            otel_sink.SendIds  # noqa: B018 - asking for the name is the point
    if extra == "statsd":
        metrics_sink.StatsDBackend(object())
