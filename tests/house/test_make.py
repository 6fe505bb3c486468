"""Two commands from a clone: what `make` offers, and what it says where something is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest


def make(repo: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"]}  # not what a make above us says of itself
    return subprocess.run(["make", *arguments], cwd=repo, env=env, capture_output=True, text=True, check=True).stdout


def test_make_alone_lists_every_target(repo: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^make ([\w-]+) ", make(repo), re.MULTILINE)) == set(phony[1].split()) - {"help"}


def test_nothing_is_installed_twice(repo: Path, tmp_path: Path) -> None:
    installed = tmp_path / ".installed-dev"
    installed.touch()
    assert "Nothing to be done" in make(repo, "install", f"VENV={tmp_path}")


def test_testing_runs_the_checks_first(repo: Path, tmp_path: Path) -> None:
    (tmp_path / ".installed-dev").touch()
    commands = make(repo, "-n", "test", f"VENV={tmp_path}").splitlines()
    tools = [line.removeprefix(f"{tmp_path}/bin/").split()[0] for line in commands]
    assert tools == ["ruff", "ruff", "pyright", "python", "python", "python"]
    assert commands[-1].endswith("-m pytest -n 2 --durations=10")


OLD = "#!/bin/sh\ncase $1 in -V) echo Python 3.9.1 ;; *) exit 1 ;; esac\n"
WITHOUT_VENV = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\n'


@pytest.mark.parametrize(
    ("python3", "said"),
    [(OLD, ("3.11 or newer is needed; python3 is Python 3.9.1", "apt install python3")), (WITHOUT_VENV, ("ensurepip", "python3-venv"))],
)
def test_what_is_missing_is_named_with_how_to_get_it(python3: str, said: tuple[str, str], repo: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    (tools / "python3").write_text(python3)
    (tools / "python3").chmod(0o755)
    command = [str(tools / "sh"), "scripts/install.sh", "dev", "dev"]
    env = {"PATH": str(tools), "VENV": str(tmp_path / "venv")}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [text for text in said if text not in done.stderr] == []
    assert not (tmp_path / "venv").exists()
