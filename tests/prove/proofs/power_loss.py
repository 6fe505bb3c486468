"""The power fails after every single write, sync, truncation and removal of a recorded talk on a SQLite file.

With ``synchronous=full`` nothing that was confirmed is missing from any state in which the disk may be found; with
``normal`` the last words may be, and what is there is whole.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.sql_store import SessionStore
from proofs import faultfs
from proofs.disk import Disk, Keep, State
from proofs.facts import acks, missing
from proofs.io_faults import IoFaults, quick_folder
from proofs.suite import Suite

Case = tuple[int, str]
"""After which event, and what of the unsynced deeds was kept (see `Keep`)."""


class PowerLoss(Suite):
    """Records one talk when it is opened; needs what `IoFaults` needs."""

    def __init__(self, synchronous: str = "full", subsets: int = 3, mutation: str | None = None, promises: str = "") -> None:
        self.name = f"power loss (SQLite, {synchronous})"
        self._synchronous, self._subsets, self._mutation = synchronous, subsets, mutation
        self._promises = promises or synchronous
        self._verdicts: dict[bytes, list[str]] = {}
        """By content: most power cuts leave the same files."""

    def open(self, stack: ExitStack) -> None:
        with IoFaults() as talks:
            options = {"mutation": self._mutation, "dsn": f"sqlite:///{talks.folder}/talk/app.db?synchronous={self._synchronous}"}
            trace = talks.folder / "power.trace"
            talks.talk("talk", action="NOTHING", trace=str(trace), **options)
            self._events = faultfs.read_trace(trace)
        self.folder = quick_folder()
        stack.callback(shutil.rmtree, self.folder)
        self._asyncio = stack.enter_context(asyncio.Runner())

    def cases(self) -> list[Case]:
        kinds = ("none", "all", *(f"subset {n}" for n in range(self._subsets)))
        return [(number, how) for number in range(len(self._events)) for how in kinds]

    def run(self, case: Case) -> list[str]:
        number, how = case
        disk = Disk()
        for event in self._events[: number + 1]:
            disk.replay(event)
        return self.verdict(disk.after_power_loss(Keep(how if how in ("none", "all") else f"{how} of {number}")))

    def verdict(self, state: State) -> list[str]:
        """What is wrong with the files as they are found."""
        print_of = blake2b(repr((sorted(state.files.items()), state.acks)).encode()).digest()
        if print_of not in self._verdicts:
            self._verdicts[print_of] = self._asyncio.run(self._look(state))
        return self._verdicts[print_of]

    def done(self) -> str:
        return f"{len(self._verdicts)} different states"

    async def _look(self, state: State) -> list[str]:
        folder = self.folder / str(len(self._verdicts))
        folder.mkdir()
        for name, content in state.files.items():
            (folder / name).write_bytes(content)
        try:
            return await self._found(folder, state.acks)
        finally:
            shutil.rmtree(folder)

    async def _found(self, folder: Path, confirmed: str) -> list[str]:
        try:
            store = await SessionStore.open(f"sqlite:///{folder}/app.db")
        except StoreUnavailable as error:
            return [f"it cannot be opened: {error}"]
        try:
            # With ``normal`` the last words may be missing: only what is there is held against the invariants.
            return await missing(store, "s", acks(confirmed) if self._promises == "full" else [], whole=True)
        except StoreUnavailable as error:
            return [f"it cannot be read: {error}"]
        finally:
            await store.close()
