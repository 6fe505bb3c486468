"""kill -9 in the middle of writes: the file holds the old content whole, or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from power_loop.contracts.tool import ToolRun
from power_loop.tools.presets import create_default_tool_registry

registry = create_default_tool_registry(include=["read_file", "write_file", "edit_file", "apply_patch"], workspace_dir=sys.argv[1])
run = ToolRun(session_id="s")
n = 0
registry.invoke("read_file", {"path": "f.txt"}, run=run)
while True:
    n += 1
    body = f"{n % 10}" * 200_000
    for name, args in (
        ("write_file", {"content": body + "\\nend\\n"}),
        ("edit_file", {"old_text": "\\nend\\n", "new_text": "\\nend\\nmore\\n"}),
        ("apply_patch", {"patch": "@@ -3 +3 @@\\n-more\\n+last\\n"}),
    ):
        assert registry.invoke(name, {"path": "f.txt", **args}, run=run).ok
    print(n, flush=True)
"""


def whole(text: str) -> bool:
    """Some version that the program wrote, from its first to its last character."""
    first, _, rest = text.partition("\n")
    return first == first[:1] * 200_000 and rest in ("end\n", "end\nmore\n", "end\nlast\n")


# acceptance: 175 (kill)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("round_trips", range(1, 9))
def test_a_kill_during_writes_leaves_old_or_new_content_whole(tmp_path: Path, repo: Path, round_trips: int) -> None:
    file = tmp_path / "f.txt"
    file.write_text("0" * 200_000 + "\nend\n")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(repo / "src"), "PATH": os.defpath}, text=True) as process:
        assert process.stdout is not None
        seen = 0
        for _ in range(round_trips):
            assert process.stdout.readline()
        # Look on at full speed: no reader may ever see a piece of a file. Then strike, wherever the writer is.
        while seen < 40 * round_trips:
            assert whole(file.read_text())
            seen += 1
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert whole(file.read_text())
    left = [name for name in os.listdir(tmp_path) if name != "f.txt"]
    assert all(name.startswith(".power-loop-write-") for name in left)
    assert len(left) <= 1
