"""Which paths a command may name without harm: what counts as the system, as a home, as a raw device, as the kernel's own."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from power_loop.tools.shell.expand import SURE, UNKNOWN, Field

SYSTEM_FOLDERS: Final = (
    *("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt", "/opt", "/proc", "/root", "/run"),
    *("/sbin", "/srv", "/sys", "/usr", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local"),
    *("/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share", "/var", "/var/lib"),
    *("/Applications", "/Library", "/System", "/Users", "/Volumes", "/private", "/private/etc", "/private/var"),
)
# What may be written below /dev without harm.
HARMLESS_DEVICES: Final = frozenset(("null", "zero", "full", "tty", "stdin", "stdout", "stderr", "random", "urandom", "ptmx"))
HARMLESS_FOLDERS: Final = ("/dev/fd/", "/dev/shm/", "/dev/pts/", "/dev/tcp/", "/dev/udp/")
# A last part that takes in everything of its folder.
EVERYTHING: Final = frozenset(("*", ".*", "**", "?*", "*?", "..?*", ".[!.]*", ".[^.]*", ".??*"))


class Places(NamedTuple):
    """The folders that matter to the check."""

    user_home: str = "/root"
    home: str = ""
    """POWER_LOOP_HOME; empty: none is guarded."""
    allowed: Sequence[str] = (".cache", "logs", "skills")
    """Below it these may be touched: names, or absolute paths."""
    workspace: str = ""

    def protected(self) -> tuple[str, ...]:
        return (*SYSTEM_FOLDERS, normal(self.user_home))


def absolute(field: Field, cwd: str | None) -> str | None:
    """The path that a field names, without ``.`` and ``..``; what is unknown in it counts as nothing. None where nobody knows."""
    text = field.text.replace(UNKNOWN, "").replace(SURE, "x")
    if text.startswith("/"):
        return normal(text)
    return normal(f"{cwd}/{text}") if cwd and text else None


def normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def is_protected(field: Field, cwd: str | None, places: Places) -> bool:
    """Removing this would remove the root, a home, or a folder of the system, or all that is in one."""
    if field.text.startswith(UNKNOWN):
        return False  # it may be anything, so nothing speaks for one of these
    path = absolute(field, cwd)
    if path is None:
        return False
    parent, last = posixpath.split(path)
    if field.glob and last in EVERYTHING and (parent == "/" or parent in places.protected()):
        return True
    return path == "/" or any(is_at_or_above(path, each, glob=field.glob) for each in places.protected())


def is_at_or_above(path: str, folder: str, *, glob: bool) -> bool:
    if not glob:
        return folder == path or folder.startswith(path.rstrip("/") + "/")
    patterns, parts = path.split("/"), folder.split("/")
    return len(patterns) <= len(parts) and all(map(matches, parts, patterns))


def matches(name: str, pattern: str) -> bool:
    """As a shell matches one part of a path: a leading dot only by a dot."""
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))


def is_raw_device(field: Field, cwd: str | None) -> bool:
    """A device that holds data: a disk, the memory."""
    path = absolute(field, cwd)
    if path is None or not path.startswith("/dev/"):
        return False
    return path.removeprefix("/dev/") not in HARMLESS_DEVICES and not f"{path}/".startswith(HARMLESS_FOLDERS)


def is_kernels_own(field: Field, cwd: str | None, places: Places) -> bool:
    """It lies in POWER_LOOP_HOME, outside of the folders there that may be touched."""
    if not places.home:
        return False
    home = normal(places.home)
    path = absolute(field, cwd)
    if path is None or (places.workspace and f"{path}/".startswith(normal(places.workspace) + "/")):
        return False
    parts, home_parts = path.split("/"), home.split("/")
    if len(parts) < len(home_parts) or not all(map(matches, home_parts, parts)):
        return False
    allowed = [normal(each) if each.startswith("/") else f"{home}/{each}" for each in places.allowed]
    return not any(f"{path}/".startswith(f"{each}/") for each in allowed)
