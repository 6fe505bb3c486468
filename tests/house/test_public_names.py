"""Every public name is documented, typed, and shown in something that runs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import power_loop
import reference
import run_page

TYPED = ("typed_api.py", "typed_tools.py", "typed_prompts.py")


def words_of(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text)}


def runnable_texts(repo: Path) -> list[str]:
    """The examples and the blocks of the docs: what other tests run."""
    pages = [repo / "README.md", *(repo / "docs").rglob("*.md")]
    code = [block.code for page in pages for block in run_page.blocks(page.read_text(encoding="utf-8")) if block.skipped is None]
    return code + [example.read_text(encoding="utf-8") for example in (repo / "examples").glob("*.py")]


# acceptance: 188 (documented)
def test_every_public_name_has_a_docstring() -> None:
    things = {name: getattr(power_loop, name) for name in power_loop.__all__}
    silent = [name for name, thing in things.items() if isinstance(thing, (type, FunctionType)) and not reference.summary(thing)]
    assert not silent


DOORS = (
    *("power_loop", "power_loop.workflow", "power_loop.llm", "power_loop.testing", "power_loop.errors", "power_loop.events"),
    *("power_loop.records", "power_loop.compat", "power_loop.contrib.ag_ui", "power_loop.contrib.mcp", "power_loop.contrib.redact"),
)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_lists_its_names_and_has_them(door: str) -> None:
    module = importlib.import_module(door)
    assert module.__all__
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


# acceptance: 188 (typed; pyright reads the file in `make check`)
def test_every_public_name_is_used_in_typed_code(repo: Path) -> None:
    trees = [ast.parse((repo / "tests" / "house" / program).read_text(encoding="utf-8")) for program in TYPED]
    used = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert sorted(set(power_loop.__all__) - used - {"__version__"}) == []


@pytest.mark.parametrize("program", TYPED)
def test_the_typed_programs_run(repo: Path, tmp_path: Path, program: str) -> None:
    path = str(repo / "tests" / "house" / program)
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# acceptance: 188 (in an example)
def test_every_stable_name_is_shown_in_an_example_that_runs(repo: Path) -> None:
    assert sorted(set(power_loop.STABLE_API) - words_of(runnable_texts(repo))) == []
