"""How many machine instructions a send takes: `python bench/instructions.py`, where valgrind is installed.

It depends far less than time on what else the machine does. Counted is what all threads do between two marks: one send after the other,
sends with a tool round, and fifty sessions at once, where the count still differs by some hundredths from run to run.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sends import Instant, look, loop_on

# What is run → (how many sessions at once, how many sends in all).
RUNS = {"plain": (1, 400), "tool": (1, 200), "fifty": (50, 1000)}
WARM_UP = 200


async def sends(run: str, folder: Path) -> None:
    """The part of it that is counted, and what must come before."""
    sessions, times = RUNS[run]
    loop = loop_on(folder / "a.db", "normal", Instant("look"), look) if run == "tool" else loop_on(folder / "a.db", "normal")
    async with loop:
        ids = [await loop.new_session() for _ in range(sessions)]

        async def talk(session: str, count: int) -> None:
            for _ in range(count):
                await loop.send("What is the weather in Lisbon?", session)

        await asyncio.gather(*(talk(session, WARM_UP // sessions) for session in ids))
        counting("on")
        await asyncio.gather(*(talk(session, times // sessions) for session in ids))
        counting("off")


def counting(switch: str) -> None:
    subprocess.run(["callgrind_control", "-i", switch, str(os.getpid())], check=True, stdout=subprocess.DEVNULL)


def counted(run: str) -> int:
    """Instructions a send."""
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*valgrind, sys.executable, __file__, run], check=True, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, "valgrind said nothing"
    return int(found[1]) // RUNS[run][1]


def main() -> None:
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory(prefix="power-loop-bench-", dir=".") as folder:
            asyncio.run(sends(sys.argv[1], Path(folder)))
        return
    for run in RUNS:
        print(f"{run}: {counted(run)} instructions a send", flush=True)


if __name__ == "__main__":
    main()
