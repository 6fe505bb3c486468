"""The public names that type checkers read are those that the package loads."""

from __future__ import annotations

import ast
from pathlib import Path

import power_loop


def test_the_stub_and_the_table_name_the_same_things_from_the_same_modules(repo: Path) -> None:
    tree = ast.parse((repo / "src" / "power_loop" / "__init__.pyi").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.names[0].name != "*"]
    stub = {alias.asname: str(node.module).removeprefix("power_loop.") for node in found for alias in node.names}
    assert stub == power_loop._HOME_OF
