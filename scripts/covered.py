"""How much of kernel, store and runtime the tests enter, branch by branch: ``python scripts/covered.py [--jobs N]``.

Runs the suites that are about them, their child processes included, and prints for every room of the package which part
of its branches and lines was entered. Ends with 1 where one of the three is below 95 % of its branches; ``--show ROOM``
then names the places. Servers that are not on this machine leave their engines out, and the figure below the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DATA = ROOT / "build" / "coverage"
BAR = 0.95
HELD = ("kernel", "store", "runtime")
SUITES = (
    *("kernel", "codec", "runtime", "runs", "door", "events", "hooks", "context", "memory", "output", "prompt", "operations", "store"),
    *(
        "contract",
        "crash",
        "ledger",
        "approvals",
        "watch",
        "workers",
        "timers",
        "boards",
        "agents",
        "builtin",
        "tools",
        "workflow",
        "prove",
    ),
)


class Room(NamedTuple):
    """What of a room there is, and was entered."""

    branches: int = 0
    entered: int = 0
    lines: int = 0
    read: int = 0

    @property
    def share(self) -> float:
        return self.entered / self.branches if self.branches else 1.0


def measured(jobs: str, suites: list[str]) -> dict[str, Any]:
    """The report of coverage on a run of ``suites``; whether their tests pass is the business of `make test`."""
    DATA.mkdir(parents=True, exist_ok=True)
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "erase"], cwd=ROOT, check=True)
    tests = [f"tests/{suite}" for suite in suites]
    # A process that is measured is slower: no test shall fail of that, and one that does shall not end the run.
    subprocess.run([*coverage, "run", "-m", "pytest", "-n", jobs, "--timeout", "600", *tests], cwd=ROOT, check=False)
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=True)
    subprocess.run([*coverage, "json", "--quiet", "-o", DATA / "report.json"], cwd=ROOT, check=True)
    return json.loads((DATA / "report.json").read_text(encoding="utf-8"))["files"]


def rooms(files: Mapping[str, Any]) -> dict[str, Room]:
    """``store`` → what its files have together."""
    sums: defaultdict[str, Room] = defaultdict(Room)
    for path, file in files.items():
        of, said = room_of(path), file["summary"]
        more = (said["num_branches"], said["covered_branches"], said["num_statements"], said["covered_lines"])
        sums[of] = Room(*(one + other for one, other in zip(sums[of], more, strict=True)))
    return dict(sorted(sums.items()))


def room_of(path: str) -> str:
    return path.partition("power_loop/")[2].partition("/")[0].removesuffix(".py")


def places(files: Mapping[str, Any], room: str) -> list[str]:
    """``file: line → line`` of each branch that no test took."""
    ways = ((path, file["missing_branches"]) for path, file in files.items() if room_of(path) == room)
    return [f"{path}: {start} → {end if end > 0 else 'end'}" for path, missing in ways for start, end in missing]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the tests enter.")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1))
    parser.add_argument("--show", default="", help="the room whose branches that no test took shall be named")
    parser.add_argument("suites", nargs="*", help="folders of tests; all that are about the three rooms when none is named")
    options = parser.parse_args()
    files = measured(options.jobs, options.suites or list(SUITES))
    found = rooms(files)
    for name, room in found.items():
        print(f"{name:16} {room.entered:>5} of {room.branches:<5} branches {room.share:6.1%}   {room.read:>5} of {room.lines:<5} lines")
    print("\n".join(places(files, options.show)))
    low = [name for name in HELD if found[name].share < BAR]
    print("\n".join(f"{name} is below {BAR:.0%} of its branches" for name in low))
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
