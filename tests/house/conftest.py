"""The package's own source, parsed once."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import NamedTuple

import pytest


class Source(NamedTuple):
    """One file under src/power_loop."""

    path: str
    """Relative to the package: ``store/sqlite.py``."""
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """``store`` for ``store/sqlite.py``, ``loop`` for ``loop.py``."""
        return self.path.split("/")[0].removesuffix(".py")


@pytest.fixture(scope="session")
def sources(repo: Path) -> list[Source]:
    root = repo / "src" / "power_loop"
    gc.collect()  # garbage whose end is logged meanwhile parses the lines it names, which Python 3.11 takes amiss
    texts = {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in sorted(root.rglob("*.py"))}
    return [Source(path, text, ast.parse(text)) for path, text in texts.items()]
