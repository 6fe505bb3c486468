"""The page of the documentation that shows what was measured: the tables, between two marks each."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys

from environments import ROOT, Environment

sys.path.insert(0, str(ROOT / "scripts"))
from marked import renewed

PAGE = ROOT / "docs" / "comparison.md"

Column = dict[str, str]
Rows = list[tuple[str, Column]]
"""Lines of (what, a cell for each library)."""


def speed(environments: list[Environment], rows: Rows) -> str:
    storage = [("storage", {e.name: e.storage for e in environments})]
    return "\n\n".join([_where(), table(environments, [*_versions(environments), *storage, *rows])])


def failures(environments: list[Environment], deaths: Rows, races: Rows) -> str:
    return "\n\n".join([
        _where(),
        "**Killed** when one of two parallel tools has ended and the other runs; then gone on with in a new process:",
        table(environments, [*_versions(environments), *deaths]),
        "**Two processes** send 20 messages each to one session at the same time:",
        table(environments, races),
    ])  # fmt: skip


def table(environments: list[Environment], rows: Rows) -> str:
    names = [environment.name for environment in environments]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {what} | " + " | ".join(cells[name] for name in names) + " |" for what, cells in rows]
    return "\n".join(lines)


def write(part: str, text: str) -> None:
    """Put ``text`` between the marks of ``part``."""
    marks = f"<!-- {part}: written by `make peers` -->", f"<!-- end of {part} -->"
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), marks[0], text, marks[1]), encoding="utf-8")


def _versions(environments: list[Environment]) -> Rows:
    return [("version", {environment.name: environment.versions() for environment in environments})]


def _where() -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {machine}."
