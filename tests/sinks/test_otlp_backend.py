"""Against a real OTLP backend: Arize Phoenix takes our trace over HTTP, keeps it, and shows it whole.

It is a server of hundreds of megabytes, so it stands in an environment of its own (`make otlp`), named in
``POWER_LOOP_TEST_PHOENIX``; without one this is skipped, and `test_real_backends` has a receiver of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from power_loop import ToolRegistry, register_spawn_agent
from power_loop.contrib.otel_sink import attach_otel_sink
from power_loop.testing import call, say

PHOENIX = os.environ.get("POWER_LOOP_TEST_PHOENIX")
# It migrates a database of its own before it answers.
STARTS_S = 180


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as told:
        return json.load(told)


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[str]:
    """The address of a backend that is up, on ports of its own, with nothing in it."""
    with socket.socket() as http, socket.socket() as grpc:
        http.bind(("127.0.0.1", 0))
        grpc.bind(("127.0.0.1", 0))
        ports = http.getsockname()[1], grpc.getsockname()[1]
    own = {"PHOENIX_WORKING_DIR": str(tmp_path), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_TELEMETRY_ENABLED": "false"}
    env = {**os.environ, **own, "PHOENIX_PORT": str(ports[0]), "PHOENIX_GRPC_PORT": str(ports[1])}
    command = [str(PHOENIX), "serve"]
    started = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield up(f"http://127.0.0.1:{ports[0]}", started)
    finally:
        started.terminate()
        started.wait(30)


def up(url: str, started: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and started.poll() is None:
        try:
            answer(f"{url}/v1/projects")
        except OSError:
            time.sleep(0.2)
        else:
            return url
    raise AssertionError("the backend did not come up")


def spans_of(url: str, count: int) -> list[dict[str, Any]]:
    """What it has stored, once that is ``count`` spans: it writes them a moment after it has taken them."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if len(found := answer(f"{url}/v1/projects/default/spans?limit=1000")["data"]) >= count:
            return found
        time.sleep(0.2)
    raise AssertionError(f"the backend never showed {count} spans")


# acceptance: 63 (a real backend), 181 (a real backend)
@pytest.mark.skipif(PHOENIX is None, reason="no program phoenix in POWER_LOOP_TEST_PHOENIX; `make otlp` installs one and runs this")
@pytest.mark.timeout(300)
async def test_a_real_backend_shows_the_trace_whole_and_its_sum_is_the_ledgers(stage: Any, phoenix: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{phoenix}/v1/traces")))
    bridge = attach_otel_sink(stage.bus, tracer=provider.get_tracer("power_loop"))
    loop, session = await stage.everything()
    registry = ToolRegistry()
    register_spawn_agent(registry)
    parent = stage.loop(call("spawn_agent", task="look"), say("seen", prompt_tokens=7), say("told"), tools=None, tool_registry=registry)
    above = await parent.run("Have it looked at")
    bridge.close()
    provider.shutdown()
    sent = [event for event in stage.heard if event.type in ("session_started", "round_started", "llm_call_started", "tool_call_started")]
    shown = {span["context"]["span_id"]: span for span in spans_of(phoenix, len(sent))}
    assert len(shown) == len(sent)

    def chain(span: dict[str, Any]) -> list[str]:
        above = shown.get(span["parent_id"] or "")
        return [span["name"].split()[0], *(chain(above) if above else [])]

    chains = {" < ".join(chain(span)) for span in shown.values()}
    tree = "invoke_agent", "round < invoke_agent", "chat < round < invoke_agent", "execute_tool < round < invoke_agent"
    child = "chat < round < invoke_agent < execute_tool < round < invoke_agent"
    assert {*tree, child} <= chains
    assert all(each.endswith("invoke_agent") for each in chains), "a span has lost its parents"
    with_usage = {span["name"].split()[0] for span in shown.values() if any(".usage." in name for name in span["attributes"])}
    assert with_usage == {"chat"}
    conversations = {span["attributes"]["gen_ai.conversation.id"] for span in shown.values()}
    assert {session, above.session_id} < conversations
    stats = await loop.get_session_stats(session)
    for key, name in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        total = sum(span["attributes"].get(f"gen_ai.usage.{name}", 0) for span in shown.values())
        assert total == getattr(stats, key) + above.usage[key]
    failed = [span for span in shown.values() if span["status_code"] == "ERROR"]
    assert {span["name"].split()[0] for span in failed} >= {"chat", "execute_tool", "invoke_agent"}
