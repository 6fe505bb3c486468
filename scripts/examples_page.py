"""examples/README.md: one line for each example, from its own docstring."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "examples"
PAGE = FOLDER / "README.md"
MAX_LINES = 65
HEAD = """# Examples

Small programs, each about one thing. `python examples/NAME.py` runs to its end without a key, a server or input: the
models are scripted, or `echo`. Where an example takes a model as argument, or `POWER_LOOP_API_KEY` and
`POWER_LOOP_MODEL` are set, a real one answers. The tests run all of them. They leave their databases in the folder
that you call them from.

| example | what it shows |
|---|---|
"""


def examples() -> list[Path]:
    return sorted(FOLDER.glob("*.py"))


def about(example: Path) -> str:
    """The first paragraph of its docstring in one line."""
    said = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""
    return said.split("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", "\\|")


def document() -> str:
    """The whole page."""
    return HEAD + "".join(f"| [{each.stem}]({each.name}) | {about(each)} |\n" for each in examples())


def wrong() -> list[str]:
    """Examples without a line, or too long to be read at a glance."""
    found = [f"{each.name} says nothing of itself" for each in examples() if not about(each)]
    found += [f"{each.name} has {n} lines" for each in examples() if (n := each.read_text("utf-8").count("\n")) > MAX_LINES]
    return found


def files() -> dict[Path, str]:
    return {PAGE: document()}
