"""MCP servers for tests: where the programs are, and one that listens on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import free_port

PROGRAMS = Path(__file__).parent.parent / "mcp" / "servers"
POLITE, RUDE = str(PROGRAMS / "polite.py"), str(PROGRAMS / "rude.py")
GENERATIONS = ("legacy", "2026-07-28")

# Where to look for the servers that others wrote: a folder with node_modules in it.
NODE_FOLDER = "POWER_LOOP_MCP_NODE"
SERVED_WITHIN_S = 100


def node_server(name: str) -> list[str] | None:
    """The command of an installed ``@modelcontextprotocol/server-NAME``; None where it is not installed."""
    binary = Path(os.environ.get(NODE_FOLDER, ".")) / "node_modules" / ".bin" / f"mcp-server-{name}"
    node = shutil.which("node")
    return [node, str(binary.resolve())] if node is not None and binary.exists() else None


@contextmanager
def listening(*command: str, port: int | None = None) -> Iterator[int]:
    """``command``, with a free port as its last argument, once it takes connections there; ended afterwards."""
    port = port or free_port()
    process = subprocess.Popen([sys.executable, *command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_open(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SERVED_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}; the server ended with {process.poll()}")
