"""Runs the measurements of one library as processes in its own environment, and reads what they print."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environments import Environment

LIMIT_S = 1800


class Failed(Exception):
    """A measurement that its library did not get through; the text is what it raised, which is then the finding."""


def start(environment: Environment, measurement: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The process of one measurement; `outcome` reads it."""
    settings = {**os.environ, "PEERS_LEDGER": str(folder / "ledger.txt"), "PYTHONWARNINGS": "ignore", **variables}
    command = [str(environment.python), str(environment.program), measurement, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings, cwd=folder)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process printed as its last line. Raises `Failed` with the last line of its errors."""
    out, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        raise Failed(next((line for line in reversed(errors.splitlines()) if line.strip()), f"exit code {process.returncode}"))
    return json.loads(out.splitlines()[-1])


def measure(environment: Environment, measurement: str, folder: Path, **variables: str) -> dict[str, Any]:
    return outcome(start(environment, measurement, folder, **variables))


def cold(environment: Environment, folder: Path) -> float:
    """Milliseconds from the start of a process to its first reply in the long session of ``folder``."""
    began = time.time()
    return (measure(environment, "cold", folder)["at"] - began) * 1000


def import_ms(environment: Environment) -> float:
    """Milliseconds of the imports that a program needs, in a process that does nothing else."""
    code = f"import time; began = time.perf_counter()\n{environment.imports}\nprint((time.perf_counter() - began) * 1000)"
    command = [str(environment.python), "-W", "ignore", "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def bytes_on_disk(folder: Path) -> int:
    """The size of all databases of ``folder``, once their logs are folded into them."""
    files = list(folder.glob("*.db"))
    for file in files:
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    return sum(file.stat().st_size for file in files)


@contextmanager
def empty_folder() -> Iterator[Path]:
    """A folder on the disk of the working directory (a temporary one may be memory); gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="power-loop-peers-", dir="."))
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
