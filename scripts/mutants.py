"""Whether the tests of the kernel notice when its code is changed: ``python scripts/mutants.py [--jobs N]``, `make mutants`.

`mutmut` changes one thing in a copy of ``src/power_loop/kernel`` and runs the tables of ``tests/kernel`` against it, again
and again. A mutant that no test notices has to stand, with its reason, in ``tests/kernel/survivors.toml``; those that differ
in a text for people alone are counted and not asked for. Ends with 1 when a survivor is unexplained, or an
explanation has none.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from difflib import ndiff
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EXPLAINED = ROOT / "tests" / "kernel" / "survivors.toml"
# Exit codes that mutmut keeps: no test failed; no test reaches the code at all.
SURVIVED, UNREACHED = 0, 33
# The laws hold for made-up histories, and take seconds: the tables have to be enough.
LEFT_OUT = ("test_laws.py",)
SETTINGS = """
[tool.pytest.ini_options]
pythonpath = ["tests/support"]
asyncio_mode = "auto"
addopts = "-q --import-mode=importlib -p no:cacheprovider"

[tool.mutmut]
source_paths = ["src/power_loop"]
only_mutate = ["src/power_loop/kernel/*"]
pytest_add_cli_args_test_selection = ["tests/kernel"]
also_copy = ["tests"]
"""
CHANCE = """
from hypothesis import settings
settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")
"""
TEXT = re.compile(r"""[frb]*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")


class Mutant(NamedTuple):
    """One change that no test noticed."""

    where: str
    """Module and function: ``decide.over_budget``."""
    before: str
    after: str


def copied(folder: Path) -> None:
    """Everything that the tests of the kernel need, and nothing that another test would."""
    ignore = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
    for part in ("src", "tests/kernel", "tests/support"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    (folder / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    (folder / "tests" / "conftest.py").write_text(CHANCE, encoding="utf-8")


def outcomes(folder: Path) -> dict[str, int | None]:
    """Name of a mutant → the exit code of the tests; None where they were not run."""
    files = sorted((folder / "mutants" / "src" / "power_loop" / "kernel").glob("*.meta"))
    return {name: code for file in files for name, code in json.loads(file.read_text())["exit_code_by_key"].items()}


def shown(folder: Path, names: Iterable[str]) -> Iterator[Mutant]:
    """What the mutants of these names change. mutmut keeps each beside its original, in the same file."""
    rooms: dict[Path, dict[str, str]] = {}
    for name in names:
        module, _, function = name.rpartition(".")
        path = folder / "mutants" / "src" / Path(*module.split(".")).with_suffix(".py")
        if path not in rooms:
            rooms[path] = bodies(path.read_text(encoding="utf-8"))
        of = function.partition("__mutmut_")[0]
        lines = [line.strip() for line in ndiff(*(rooms[path][each].splitlines() for each in (f"{of}__mutmut_orig", function)))]
        before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(f"{sign} ")) for sign in "-+")
        where = f"{module.rpartition('.')[2]}.{of.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"
        yield Mutant(where, before, after)


def bodies(source: str) -> dict[str, str]:
    """Name of a function, original or mutant → its text without that name."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name]
    texts = {node.name: ast.get_source_segment(source, node) or "" for node in found}
    return {name: text.replace(name, "", 1) for name, text in texts.items()}


def is_text(mutant: Mutant) -> bool:
    """Both lines are the same but for words that a person, or a model, reads."""
    texts = [TEXT.findall(line) for line in (mutant.before, mutant.after)]
    bare = [TEXT.sub('""', line) for line in (mutant.before, mutant.after)]
    changed = [one for one, other in zip(*texts, strict=False) if one != other]
    return bare[0] == bare[1] and bool(changed) and all(" " in one for one in changed)


def explained() -> dict[Mutant, str]:
    listed = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivor"]
    return {Mutant(each["where"], each["before"], each["after"]): each["reason"] for each in listed}


def verdict(survivors: list[Mutant], reasons: dict[Mutant, str]) -> Iterator[str]:
    """What is wrong: survivors without a reason, and reasons without a survivor."""
    for mutant in survivors:
        if mutant not in reasons:
            yield f"survived: {mutant.where}\n  - {mutant.before}\n  + {mutant.after}"
    yield from (f"explained, and noticed by now: {each.where}\n  + {each.after}" for each in reasons if each not in survivors)


def main() -> int:
    parser = argparse.ArgumentParser(description="Change the kernel, and see whether its tests notice.")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1), help="so many mutants at once")
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        copied(folder)
        mutmut = [Path(sys.executable).parent / "mutmut", "run", "--max-children", jobs]
        subprocess.run(mutmut, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        found = outcomes(folder)
        alive = list(shown(folder, [name for name, code in found.items() if code in (SURVIVED, UNREACHED)]))
    texts = [mutant for mutant in alive if is_text(mutant)]
    wrong = list(verdict([mutant for mutant in alive if mutant not in texts], explained()))
    skipped = sum(code is None for code in found.values())
    print("\n".join(wrong))
    print(f"{len(found)} mutants: {len(found) - len(alive) - skipped} killed, {skipped} not run")
    print(f"{len(texts)} differ in a text for people, {len(alive) - len(texts)} survived, {len(explained())} of them explained")
    return 1 if wrong or skipped or not found else 0


if __name__ == "__main__":
    sys.exit(main())
