"""The documentation is true: every block of Python in it runs, every example ends well, every command exists.

Offline: the model is `echo`, and no key or endpoint of the machine is seen. Pages and examples run in processes of
their own, in empty folders.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm

from run_page import blocks

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_PAGE = ROOT / "scripts" / "run_page.py"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CONFIGURED = ("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")


def run_offline(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run([*map(str, command)], cwd=folder, env=offline(folder))


def offline(folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURED)}
    return env | {"POWER_LOOP_PROVIDER": "echo", "PYTHONWARNINGS": warm.WARNINGS, "HOME": str(folder)}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# acceptance: 188 (blocks run)
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=name_of)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    done = run_offline(tmp_path, RUN_PAGE, page)
    assert done.returncode == 0, done.stdout + done.stderr


# acceptance: 188 (examples run)
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_every_example_ends_well(example: Path, tmp_path: Path) -> None:
    done = run_offline(tmp_path, example)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", [EXAMPLES[0], EXAMPLES[2], ROOT / "examples" / "demo.py"], ids=name_of)
def test_an_example_needs_nothing_but_a_python_to_run(example: Path, tmp_path: Path) -> None:
    """A cold one, as a reader has it; the others are run by one that has imported everything before."""
    env = offline(tmp_path)
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_hides_behind_its_fence(page: Path) -> None:
    """A fence with more words than ``python`` is rendered as text; what is not run says why in a comment above."""
    text = page.read_text(encoding="utf-8")
    found = list(blocks(text))
    assert not [f"line {block.line}: {block.words}" for block in found if block.words]
    assert len(found) == len(re.findall(r"^ *```python", text, re.MULTILINE)), "a block has no end"


def test_few_blocks_are_shown_without_being_run() -> None:
    skipped = [
        f"{name_of(page)}:{block.line} {block.skipped}" for page in PAGES for block in blocks(page.read_text("utf-8")) if block.skipped
    ]
    assert len(skipped) <= 3, "\n".join(skipped)


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert named <= targets


def test_a_page_is_run_as_a_reader_would_type_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport asyncio\nx = 1\n```\n\n- in a list:\n\n  ```python\n  await asyncio.sleep(0)\n  x += 1\n  ```\n\n"
        "<!-- no-run: it never ends -->\n```python\nwhile True: ...\n```\n\n```python\nassert x == 2\nassert x == 3, 'wrong'\n```\n"
    )
    done = run_offline(tmp_path, RUN_PAGE, page)
    assert "wrong" in done.stderr
    assert 'page.md", line 20' in done.stderr
