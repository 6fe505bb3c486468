"""Against the real things: a Prometheus server that scrapes, a StatsD server, the OTLP exporter over HTTP.

The servers are used where they are found: ``prometheus`` on the PATH or in ``POWER_LOOP_TEST_PROMETHEUS``, the npm package
``statsd`` in node_modules or in ``POWER_LOOP_TEST_STATSD``; `make servers` installs both. The OTLP receiver is ours, built on the
published protobuf messages; a backend of others is held against us in `test_otlp_backend`.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, start_http_server
from servers import free_port

from power_loop.contrib.metrics_sink import PrometheusBackend, StatsDBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink

PROMETHEUS = os.environ.get("POWER_LOOP_TEST_PROMETHEUS") or shutil.which("prometheus")
STATSD = Path(os.environ.get("POWER_LOOP_TEST_STATSD", Path(__file__).parents[2] / "node_modules" / "statsd"))
HAS_STATSD = (STATSD / "stats.js").exists() and shutil.which("node") is not None


def eventually(ask: Callable[[], Any], within_s: float = 30.0) -> Any:
    """The first true answer; a server tells no other way that it is ready."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if answer := ask():
                return answer
        except HTTPError as error:  # it answers, but not yet with that
            error.close()
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not answer in time")


@contextmanager
def process(command: list[str], folder: Path) -> Iterator[None]:
    started = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.terminate()
        started.wait(10)


# acceptance: 62 (a real Prometheus server)
@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on the PATH or in POWER_LOOP_TEST_PROMETHEUS")
async def test_a_prometheus_server_scrapes_the_ledgers_sum(stage: Any, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    attach_metrics_sink(stage.bus, PrometheusBackend(registry))
    loop, session = await stage.everything()
    stats = await loop.get_session_stats(session)
    scraped, port = free_port(), free_port()
    server, thread = start_http_server(scraped, "127.0.0.1", registry)
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "t", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [str(PROMETHEUS), "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}"]

    def sample(name: str) -> float | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={name}", timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    try:
        with process(command, tmp_path):
            total = eventually(lambda: sample("power_loop_usage_total_tokens_total"))
            assert total == stats.prompt_tokens + stats.completion_tokens == sample("sum(power_loop_usage_tokens_total)")
            assert sample("sum(power_loop_llm_calls_total)") == stats.llm_calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# acceptance: 62 (a real StatsD server)
@pytest.mark.skipif(not HAS_STATSD, reason="no npm package statsd in node_modules or POWER_LOOP_TEST_STATSD, or no node")
async def test_a_statsd_server_counts_the_ledgers_sum(stage: Any, tmp_path: Path) -> None:
    port, console = free_port(socket.SOCK_DGRAM), free_port()
    settings = {
        "port": port,
        "address": "127.0.0.1",
        "mgmt_port": console,
        "mgmt_address": "127.0.0.1",
        "backends": [],
        "flushInterval": 600000,
    }
    (tmp_path / "config.js").write_text(json.dumps(settings))

    def ask(question: str) -> str:
        with socket.create_connection(("127.0.0.1", console), timeout=5) as line:
            line.sendall(question.encode() + b"\n")
            answer = b""
            while b"END" not in answer:
                answer += line.recv(65536)
        return answer.decode()

    with process(["node", str(STATSD / "stats.js"), "config.js"], tmp_path):
        eventually(lambda: ask("counters"))
        backend = StatsDBackend(host="127.0.0.1", port=port)
        sink = attach_metrics_sink(stage.bus, backend)
        loop, session = await stage.everything()
        stats = await loop.get_session_stats(session)
        total = stats.prompt_tokens + stats.completion_tokens
        eventually(lambda: f"power_loop_usage_total_tokens: {total}" in ask("counters").replace("'", ""), 10)
        assert "power_loop_tool_calls.break_it.false: 1" in ask("counters").replace("'", "")
        assert "power_loop_llm_call_duration_ms" in ask("timers")
        assert "power_loop_running_sends: 0" in ask("gauges").replace("'", "")
        sink.close()
        backend.close()


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver: keeps the messages that are posted to it."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        super().__init__(("127.0.0.1", 0), Posted)


class Posted(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        receiver: Any = self.server
        kind, kept = {
            "/v1/traces": (ExportTraceServiceRequest, receiver.traces), "/v1/metrics": (ExportMetricsServiceRequest, receiver.metrics),
        }[self.path]  # fmt: skip
        kept.append(kind.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# acceptance: 181 (over the wire)
async def test_the_real_exporter_sends_traces_and_metrics_that_give_the_ledgers_sum(stage: Any, receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/v1"
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/traces")))
    metering = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/metrics"), export_interval_millis=600_000)])
    bridge = attach_otel_sink(stage.bus, tracer=tracing.get_tracer("t"), meter=metering.get_meter("t"))
    loop, session = await stage.everything()
    bridge.close()
    tracing.shutdown()
    metering.shutdown()
    stats = await loop.get_session_stats(session)
    spans = [
        span for request in receiver.traces for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]
    chats = [{each.key: each.value for each in span.attributes} for span in spans if span.name.startswith("chat")]
    assert sum(chat["gen_ai.usage.input_tokens"].int_value for chat in chats) == stats.prompt_tokens
    assert sum(chat["gen_ai.usage.output_tokens"].int_value for chat in chats) == stats.completion_tokens
    known = {span.span_id for span in spans}
    assert all(span.parent_span_id in known for span in spans if not span.name.startswith("invoke_agent"))
    metrics = [
        metric
        for request in receiver.metrics
        for res in request.resource_metrics
        for scope in res.scope_metrics
        for metric in scope.metrics
    ]
    tokens = next(metric for metric in metrics if metric.name == "gen_ai.client.token.usage")
    assert sum(point.sum for point in tokens.histogram.data_points) == stats.prompt_tokens + stats.completion_tokens
