"""What an extra brings is asked for where it is used: without it the call says which one is missing, and importing says nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUS = "from power_loop import AgentEventBus; bus = AgentEventBus()"
# Of each extra: the package that is missing, what is imported without a word, and the call that asks for it.
ASKS = {
    "openai": ("openai", "from power_loop.llm import create_llm", "create_llm('openai:m', api_key='k')"),
    "anthropic": ("anthropic", "from power_loop.llm import create_llm", "create_llm('anthropic:m', api_key='k')"),
    "postgres": ("asyncpg", "import asyncio; from power_loop import open_store", "asyncio.run(open_store('postgresql://h/d'))"),
    "mysql": ("aiomysql", "import asyncio; from power_loop import open_store", "asyncio.run(open_store('mysql://h/d'))"),
    "prometheus": ("prometheus_client", "from power_loop.contrib.metrics_sink import PrometheusBackend as B", "B()"),
    "statsd": ("statsd", "from power_loop.contrib.metrics_sink import StatsDBackend as B", "B()"),
    "otel": ("opentelemetry", f"{BUS}; from power_loop.contrib.otel_sink import attach_otel_sink", "attach_otel_sink(bus)"),
    "mcp": ("mcp", "import asyncio; from power_loop.contrib.mcp import StdioMCPClient as C", "asyncio.run(C('x').connect())"),
    "cron": ("cronsim", "from power_loop.contracts.cron import next_cron_ms", "next_cron_ms('* * * * *', 'UTC', 0)"),
    "inspect": (
        "starlette",
        "import argparse; from power_loop.cli import inspect",
        "inspect.run(argparse.Namespace(dsn=':memory:', prefix='p'))",
    ),
}
# Without these there is less, said in the words of a result or a ValueError, or another way to the same.
DO_WITHOUT = {"skills", "pdf", "pydantic", "jsonschema", "tokens", "cli", "dask", "all", "dev", "docs", "quality"}


# acceptance: 7
@pytest.mark.parametrize("extra", ASKS)
def test_a_missing_extra_is_named_at_the_call_and_not_at_the_import(extra: str) -> None:
    missing, imports, asks = ASKS[extra]
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n{imports}\n"
        f"try:\n    {asks}\nexcept ImportError as error:\n    print(error)\nelse:\n    sys.exit('nothing was missed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"power-loop[{extra}]" in done.stdout


def test_every_extra_is_in_one_of_the_tables() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == set(ASKS) | DO_WITHOUT
