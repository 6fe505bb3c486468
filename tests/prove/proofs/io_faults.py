"""Every boundary between SQLite and its disk: the process is killed there, in the middle of it, or the disk refuses.

A real process talks on a file below the preloaded library; then others look, talk on, and look again.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

from forks import ForkServer

from proofs import faultfs
from proofs.suite import Suite

Case = tuple[int, str]
"""Which boundary, from 1, and what happens there."""


class IoFaults(Suite):
    """Raises `Missing` where nothing can be preloaded."""

    name = "I/O faults (SQLite)"

    def __init__(self, mutation: str | None = None) -> None:
        self._mutation = mutation
        self._boundaries = 0

    def open(self, stack: ExitStack) -> None:
        self.folder = quick_folder()
        stack.callback(shutil.rmtree, self.folder)
        library = faultfs.build(self.folder)
        self._server = stack.enter_context(ForkServer(Path(__file__).with_name("talker.py"), self.folder, LD_PRELOAD=str(library)))
        self._boundaries = int(self.talk("whole", action="NOTHING").joinpath("boundaries.jsonl").read_text())

    def cases(self) -> list[Case]:
        return [(nth, action) for nth in range(1, self._boundaries + 1) for action in faultfs.ACTIONS[1:]]

    def run(self, case: Case) -> list[str]:
        nth, action = case
        folder = self.folder / f"{action}{nth}"
        folder.mkdir()
        try:
            return [*self._hurt(folder, nth, action), *self._go_on(folder)]
        finally:
            shutil.rmtree(folder)

    def talk(self, name: str, **more: object) -> Path:
        """An undisturbed talk; its folder."""
        folder = self.folder / name
        folder.mkdir()
        assert self._server.run(self._job(folder, "talk", **more)) == [0]
        return folder

    def _hurt(self, folder: Path, nth: int, action: str) -> list[str]:
        ended = self._server.run(self._job(folder, "talk", nth=nth, action=action, mutation=self._mutation))
        expected = [-signal.SIGKILL] if action in ("KILL", "TORN") else [0]
        return [f"it ended with {ended}"] if ended != expected else []

    def _go_on(self, folder: Path) -> list[str]:
        ended = self._server.run(self._job(folder, "go on"))
        return [f"the next one ended with {ended}"] if ended != [0] else json.loads((folder / "found.json").read_text())

    def _job(self, folder: Path, verb: str, **more: object) -> dict[str, object]:
        return {"folder": str(folder), "dsn": f"sqlite:///{folder}/app.db", "verb": verb, "whole": True, **more}


def quick_folder() -> Path:
    """In memory where there is such a file system: what survives a killed process needs no disk."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="power-loop-", dir=memory if memory.is_dir() else None))
