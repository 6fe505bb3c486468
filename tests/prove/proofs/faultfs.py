"""The preloaded library of tests/support/faultfs.c: built once per run, armed by the process that it watches."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from proofs.suite import Missing

SOURCE = Path(__file__).parents[2] / "support" / "faultfs.c"

ACTIONS = ("NOTHING", "KILL", "TORN", "EIO_ONCE", "EIO_EVER", "ENOSPC_ONCE", "ENOSPC_EVER")
"""As the C source numbers them."""


def build(folder: Path) -> Path:
    """The library, built into ``folder``. Raises `Missing` where there is no Linux or no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        raise Missing("it needs Linux and a C compiler (gcc or cc), to preload a library")
    library = folder / "faultfs.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def watch(folder: str | os.PathLike[str], *, trace: str = "", nth: int = 0, action: str = "NOTHING") -> None:
    """In the process itself, started with the library preloaded: watch ``folder``; do ``action`` at the nth boundary."""
    library = ctypes.CDLL(None)
    library.faultfs_watch(os.fspath(folder).encode(), trace.encode(), ctypes.c_long(nth), ACTIONS.index(action))


def seen() -> int:
    """How many boundaries there were so far."""
    library = ctypes.CDLL(None)
    library.faultfs_seen.restype = ctypes.c_long
    return library.faultfs_seen()


class Event(NamedTuple):
    """One line of a trace; the kinds are those of the C source."""

    kind: str
    at: int
    path: str
    data: bytes


def read_trace(path: Path) -> list[Event]:
    """What was traced, in order; paths are file names."""
    events: list[Event] = []
    with path.open("rb") as file:
        while head := file.readline():
            kind, at, length, name = head.decode().rstrip("\n").split(" ", 3)
            events.append(Event(kind, int(at), os.path.basename(name), file.read(int(length))))
    return events
