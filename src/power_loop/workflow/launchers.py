"""How a worker's process is started: plainly, or inside of a sandbox. A launcher that raises fails its leaf; nothing falls back."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from power_loop.contracts.agents import AgentSpec
from power_loop.tools.shell.bubblewrap import NETWORK_FILES, SYSTEM_FILES, found_bwrap, system_folders, workspace_of


@runtime_checkable
class WorkerLauncher(Protocol):
    """Turns the command of a worker into the one that is started."""

    def build(
        self, *, base_argv: Sequence[str], base_env: Mapping[str, str], spec: AgentSpec, db_path: str, workspace_dir: str
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """(argv, environment). ``spec.tools`` are the leaf's tools; its three streams must reach the worker unchanged."""
        ...


class DirectWorkerLauncher:
    """Starts the worker as a process of this user, with the environment as it is. No boundary."""

    def build(
        self, *, base_argv: Sequence[str], base_env: Mapping[str, str], spec: AgentSpec, db_path: str, workspace_dir: str
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """See `WorkerLauncher`."""
        return base_argv, base_env


class BubblewrapLauncher:
    """Starts the worker inside bubblewrap: the system and this Python readable, its workspace and its database's folder writable.

    With ``network`` (a model is reached over it) the host's network is shared; without it there is none. Linux with ``bwrap``;
    where the sandbox cannot be made, `RuntimeEnvError` or bubblewrap's own message fails the leaf.
    """

    def __init__(self, *, network: bool = True, read_only: Sequence[str | os.PathLike[str]] = ()) -> None:
        self.network = network
        self.read_only: tuple[str, ...] = tuple(os.path.abspath(path) for path in read_only)

    def build(
        self, *, base_argv: Sequence[str], base_env: Mapping[str, str], spec: AgentSpec, db_path: str, workspace_dir: str
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """See `WorkerLauncher`."""
        argv = [found_bwrap(), *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--die-with-parent", "--new-session")]
        argv += [] if self.network else ["--unshare-net"]
        argv += ["--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", *system_folders(), "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for path in SYSTEM_FILES + (NETWORK_FILES if self.network else ()):
            argv += ["--ro-bind-try", path, path]
        for path in (*self._python(), *self.read_only):
            argv += ["--ro-bind", path, path]
        for path in dict.fromkeys((os.path.dirname(os.path.abspath(db_path)), workspace_of(workspace_dir))):
            argv += ["--bind", path, path]
        return [*argv, "--chdir", workspace_dir, "--", *base_argv], {**base_env, "TMPDIR": "/tmp"}

    def _python(self) -> list[str]:
        """Where this interpreter, its packages and this package are, as far as they do not lie in the system."""
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        # A virtual environment is entered under the name that it was started by, links or not.
        places = (sys.prefix, *map(os.path.realpath, (sys.prefix, sys.base_prefix, package)))
        return [path for path in dict.fromkeys(places) if not path.startswith("/usr/") and path not in ("/", "/usr")]
