"""A shell in a sandbox of Linux namespaces, made by bubblewrap (``bwrap``).

Inside there is a read-only system, the workspace under its own path, an empty ``/tmp``, and nothing else of the host:
no network, no other processes, no shared memory. Nothing falls back: where the sandbox cannot be made, no shell starts.
It shares the kernel with the host, and sets no limits to memory or processes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Hashable, Iterator, Sequence

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.tools.shell.backend import BASH, names, shell_environment

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# nobody, on every Linux. Outside, what it writes belongs to whoever started the sandbox.
NOBODY = "65534"
TMP_BYTES = 512 * 1024 * 1024
# On most systems links into /usr; on others folders of their own.
SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs of the system do not start or name themselves without. No accounts, keys or settings.
SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime")
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")
# A workspace that holds one of these would hand over the system, writable.
NEVER_WRITABLE = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")


class BubblewrapShellBackend:
    """bash inside bubblewrap: no network (unless ``network``), the workspace writable, the system and ``read_only`` readable.

    ``env`` names variables of the host that are let through. Linux with ``bwrap`` 0.8 or newer; where it is missing, or
    the kernel refuses namespaces, `RuntimeEnvError` or bubblewrap's own message is the answer, and no command runs.
    """

    env: tuple[str, ...]
    network: bool

    def __init__(self, *, network: bool = False, read_only: Sequence[str | os.PathLike[str]] = (), env: Sequence[str] = ()) -> None:
        self.network, self.env = network, names(env)
        self.read_only: tuple[str, ...] = tuple(os.path.abspath(os.fspath(path)) for path in read_only)

    def launch_argv(self, ws: str) -> list[str]:
        return [found_bwrap(), *self._options(workspace_of(ws)), *BASH]

    def launch_cwd(self, ws: str) -> str | None:
        return "/"

    def launch_env(self, ws: str) -> dict[str, str]:
        own = {"PATH": PATH, "HOME": os.path.realpath(ws), "USER": "nobody", "LOGNAME": "nobody", "SHELL": BASH[0], "TMPDIR": "/tmp"}
        have = {name: value for name, value in os.environ.items() if name in ("LANG", "LANGUAGE", "TZ") or name.startswith("LC_")}
        have |= {name: os.environ[name] for name in self.env if name in os.environ}
        return shell_environment(source=own | have, env=self.env)

    def session_key(self, ws: str) -> Hashable:
        return ("bubblewrap", os.path.realpath(ws), self.network, self.read_only, self.env)

    def _options(self, workspace: str) -> Iterator[str]:
        # What cannot be had must not start, so nothing that matters is only tried. Nested user namespaces would reopen doors of the kernel.
        yield from ("--unshare-user", "--disable-userns", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try")
        yield from () if self.network else ("--unshare-net",)
        yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox")
        yield from ("--ro-bind", "/usr", "/usr", *system_folders())
        for path in SYSTEM_FILES + (NETWORK_FILES if self.network else ()):
            yield from ("--ro-bind-try", path, path)
        # Read-only: where the host runs as root, the kernel lets its uid write settings there, capabilities or not.
        yield from (
            "--proc",
            "/proc",
            "--remount-ro",
            "/proc",
            "--dev",
            "/dev",
            "--size",
            str(TMP_BYTES),
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/run",
        )
        inside = [path for path in self.read_only if os.path.commonpath([workspace, path]) == workspace]
        for path in (path for path in self.read_only if path not in inside):
            yield from ("--ro-bind", path, path)
        yield from ("--bind", workspace, workspace)
        for path in inside:  # later mounts lie on top
            yield from ("--ro-bind", path, path)
        yield from ("--remount-ro", "/", "--chdir", workspace, "--")

    def __repr__(self) -> str:
        return f"BubblewrapShellBackend(network={self.network}, read_only={self.read_only}, env={self.env})"


def found_bwrap() -> str:
    """The path of ``bwrap``. Raises `RuntimeEnvError` where there is none."""
    if not sys.platform.startswith("linux"):
        raise RuntimeEnvError(f"bubblewrap makes sandboxes on Linux only, not on {sys.platform}; no shell was started")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise RuntimeEnvError("bubblewrap is not installed (Debian, Ubuntu: apt install bubblewrap); no shell was started")
    return bwrap


def workspace_of(ws: str) -> str:
    """``ws`` without links. Raises `RuntimeEnvError` for one that is missing, or holds parts of the system."""
    workspace = os.path.realpath(ws)
    if not os.path.isdir(workspace):
        raise RuntimeEnvError(f"the workspace {ws!r} is no folder; no shell was started")
    if any(os.path.commonpath([workspace, path]) == workspace for path in NEVER_WRITABLE):
        raise RuntimeEnvError(f"the workspace {ws!r} holds parts of the system, which a sandbox must not write; give a folder of its own")
    return workspace


def system_folders() -> Iterator[str]:
    """Options that make the top-level folders of programs what they are outside: links, or folders."""
    for path in SYSTEM_FOLDERS:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
