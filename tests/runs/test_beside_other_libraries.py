"""The two experiments of `make peers`, on us: what the comparison says of power-loop is so at every commit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# In a process of its own: the programs of that folder are scripts, with names of their own beside each other.
EXPERIMENT = """
import json, sys
from pathlib import Path
import failures
from environments import ENVIRONMENTS, Environment

class Here(Environment):
    python = property(lambda self: Path(sys.executable))

ours = ENVIRONMENTS[0]
here = Here(ours.name, ours.packages, ours.shown, ours.imports, ours.storage)
print(json.dumps(getattr(failures, sys.argv[1])(here, Path(sys.argv[2]))))
"""


@pytest.fixture
def found(repo: Path, tmp_path: Path) -> Any:
    def run(experiment: str) -> dict[str, str]:
        command = [sys.executable, "-c", EXPERIMENT, experiment, str(tmp_path)]
        done = subprocess.run(command, cwd=repo / "bench" / "peers", capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_killed_between_two_parallel_tools_neither_runs_again_and_the_send_goes_on(found: Any) -> None:
    *tools, resumed, after, said, result, dangling = found("killed").values()
    assert tools == ["once", "once"]
    assert (resumed, after) == ("an answer", "an answer")
    assert (said, result, dangling) == ("yes", "yes", "0")


def test_two_processes_on_one_session_lose_and_mix_up_nothing(found: Any) -> None:
    answered, *wrong = found("raced").values()
    assert answered == "40 of 40"
    assert wrong == ["0"] * 5
