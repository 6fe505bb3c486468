"""Runs the tests on every Python from 3.11 on that this machine has, each in a virtual environment of its own.

``python scripts/pythons.py [pytest arguments]``. What the newest tools cannot install on some version fails there by name.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = [f"python3.{minor}" for minor in range(11, 20)]


def found() -> dict[str, str]:
    """Version → interpreter: on the PATH, or installed by pyenv or uv; the first that runs, for each version."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")) + "/versions"
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR", os.path.expanduser("~/.local/share/uv/python"))
    paths: dict[str, str] = {}
    for name in NAMES:
        candidates = [shutil.which(name), *(path for root in (pyenv, uv) for path in sorted(glob.glob(f"{root}/*/bin/{name}")))]
        paths |= {name.removeprefix("python"): path for path in reversed(candidates) if path and runs(path)}
    return paths


def runs(python: str) -> bool:
    """A pyenv shim is on the PATH also for versions that are not selected, and then fails."""
    return subprocess.run([python, "-I", "-S", "-c", ""], capture_output=True, check=False).returncode == 0


def tests_pass(version: str, python: str, arguments: list[str]) -> bool:
    venv = f".venv-{version}"
    print(f"=== Python {version}", flush=True)
    install = ["make", "--no-print-directory", "install", f"VENV={venv}", f"PYTHON={python}"]
    pytest = [f"{venv}/bin/python", "-m", "pytest", *arguments]
    return all(subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in (install, pytest))


def main() -> int:
    results = {version: tests_pass(version, python, sys.argv[1:]) for version, python in found().items()}
    print("\n".join(f"Python {version}: {'passed' if passed else 'FAILED'}" for version, passed in results.items()))
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
