"""Packages of npm that tests use: from the cache of earlier runs, or fresh."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def installed(package: str, file: str) -> Path:
    """``file`` of ``package``, which is ``name@version``. Raises `LookupError` where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "power-loop-tests"
    home = cache / package.replace("/", "+")
    found = home / "node_modules" / file
    if found.exists():
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise LookupError("npm is not installed")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", package], cwd=fresh, capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode:
        shutil.rmtree(fresh)
        raise LookupError(f"npm cannot install {package}: {done.stderr.strip()[-200:]}")
    try:
        fresh.rename(home)  # another test process may have been faster
    except OSError:
        shutil.rmtree(fresh)
    return found
