"""The map in docs/architecture.md: one line for every file under src/power_loop, from its own docstring.

What stands outside the two marks is written by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import marked

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "power_loop"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map: written by `make map` -->", "<!-- end of the map -->"

FLOORS = {
    "6 · The doors": ("__init__", "__main__", "cli", "inspector", "testing", "llm", "errors", "events", "records", "compat"),
    "5 · Compose": (
        *("loop", "parts", "verbs", "drivers", "keyed", "posting", "session_verbs", "terms", "words", "parameters", "sync"),
        *("streaming", "watching"),
        *("workflow", "worker", "timer_runner"),
    ),
    "4 · A child session is a tool": ("agents",),
    "3 · Do": ("runtime", "timers", "contrib", "memory", "config"),
    "2 · Decide and show": ("kernel", "context"),
    "2 · Adapt": ("store", "providers", "tools"),
    "1 · Vocabulary and ports": ("contracts", "version"),
}


def first_sentence(file: Path) -> str | None:
    """The first line of the file's docstring; None for an empty file."""
    text = file.read_text(encoding="utf-8")
    if not text.strip():
        return None
    return (ast.get_docstring(ast.parse(text)) or "(no docstring)").splitlines()[0]


def lines_of(room: str) -> Iterator[str]:
    single = PACKAGE / f"{room}.py"
    for file in [single] if single.is_file() else sorted((PACKAGE / room).rglob("*.py")):
        if sentence := first_sentence(file):
            yield f"| `{file.relative_to(PACKAGE)}` | {sentence.replace('|', chr(92) + '|')} |"


def tables() -> str:
    """The map as Markdown, a table per floor that has files."""
    parts: list[str] = []
    for floor, rooms in FLOORS.items():
        rows = [line for room in rooms for line in lines_of(room)]
        if rows:
            parts.append("\n".join([f"### {floor}", "", "| file | what it is for |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def unplaced() -> list[str]:
    """Rooms that stand on no floor."""
    placed = {room for rooms in FLOORS.values() for room in rooms}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))}
    return sorted(rooms - placed)


def files() -> dict[Path, str]:
    return {PAGE: marked.renewed(PAGE.read_text(encoding="utf-8"), BEGIN, tables(), END)}
