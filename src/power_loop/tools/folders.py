"""Files and folders below a root, opened without being led astray.

A path that was allowed a moment ago may be a link by now. So every component is opened relative to the handle of
the folder above it, and none is followed if it is a link: whatever is swapped between look and use, nothing outside
of the root is read or written. Where the system has no such calls, `ByPath` looks again after each opening instead.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, Self

from power_loop.tools.env import Place

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# A pipe without a writer would block whoever opens it for reading.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_LINK
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK

HAS_HANDLES = {os.open, os.stat, os.mkdir, os.rename, os.link, os.unlink} <= os.supports_dir_fd and os.scandir in os.supports_fd


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    kind: str
    """``file``, ``folder``, ``link`` or ``other``."""


class Folder(Protocol):
    """A folder that is open. Its methods take single names, and raise `OSError`; none follows a link."""

    def enter(self, name: str) -> Folder: ...

    def open_file(self, name: str) -> int:
        """A descriptor of the regular file ``name``, for reading."""
        ...

    def create(self, name: str, mode: int) -> int:
        """A descriptor of a new file, for writing. Raises `FileExistsError`."""
        ...

    def make(self, name: str) -> None:
        """A new folder. Raises `FileExistsError`."""
        ...

    def status(self, name: str) -> os.stat_result: ...

    def entries(self) -> list[Entry]:
        """What is in it, in no order."""
        ...

    def move(self, name: str, over: str) -> None:
        """Rename; what bore the name ``over`` is gone."""
        ...

    def link(self, name: str, new: str) -> None:
        """A second name for a file. Raises `FileExistsError` where ``new`` is taken."""
        ...

    def remove(self, name: str) -> None: ...

    def settle(self) -> None:
        """What was renamed in here survives a loss of power from now on."""
        ...

    def close(self) -> None: ...


class ByHandle:
    """A folder as the system's own handle."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def root(cls, path: str) -> Self:
        return cls(os.open(path, _FOLDER))

    def enter(self, name: str) -> ByHandle:
        return ByHandle(os.open(name, _FOLDER, dir_fd=self._fd))

    def open_file(self, name: str) -> int:
        return only_regular(os.open(name, _FILE, dir_fd=self._fd))

    def create(self, name: str, mode: int) -> int:
        return os.open(name, _NEW_FILE, mode, dir_fd=self._fd)

    def make(self, name: str) -> None:
        os.mkdir(name, dir_fd=self._fd)

    def status(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def entries(self) -> list[Entry]:
        with os.scandir(self._fd) as found:
            return [Entry(each.name, kind_of(each)) for each in found]

    def move(self, name: str, over: str) -> None:
        os.rename(name, over, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link(self, name: str, new: str) -> None:
        os.link(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def settle(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class ByPath:
    """A folder as a path, for systems without handles: each use makes sure that the path still has no link in it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._look(path, stat.S_ISDIR, errno.ENOTDIR)

    @classmethod
    def root(cls, path: str) -> Self:
        return cls(path)

    def enter(self, name: str) -> ByPath:
        return ByPath(os.path.join(self._path, name))

    def open_file(self, name: str) -> int:
        path = os.path.join(self._path, name)
        self._look(path, lambda mode: not stat.S_ISLNK(mode), errno.ELOOP)
        fd = only_regular(os.open(path, _FILE))
        try:
            if not os.path.samestat(os.fstat(fd), self._look(path, stat.S_ISREG, errno.ELOOP)):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create(self, name: str, mode: int) -> int:
        return os.open(self._at(name), _NEW_FILE, mode)

    def make(self, name: str) -> None:
        os.mkdir(self._at(name))

    def status(self, name: str) -> os.stat_result:
        return os.lstat(self._at(name))

    def entries(self) -> list[Entry]:
        self._at("")
        with os.scandir(self._path) as found:
            entries = [Entry(each.name, kind_of(each)) for each in found]
        self._at("")
        return entries

    def move(self, name: str, over: str) -> None:
        os.replace(self._at(name), self._at(over))

    def link(self, name: str, new: str) -> None:
        os.link(self._at(name), self._at(new))

    def remove(self, name: str) -> None:
        os.unlink(self._at(name))

    def settle(self) -> None:
        """There is nothing that a path could do for it."""

    def close(self) -> None:
        """Nothing is open."""

    def _at(self, name: str) -> str:
        self._look(self._path, stat.S_ISDIR, errno.ENOTDIR)
        return os.path.join(self._path, name)

    def _look(self, path: str, holds: Callable[[int], bool], error: int) -> os.stat_result:
        found = os.lstat(path)
        folder = path if path == self._path else os.path.dirname(path)
        if not holds(found.st_mode) or os.path.realpath(folder) != folder:
            raise OSError(error, os.strerror(error), os.path.basename(path))
        return found


def kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def only_regular(fd: int) -> int:
    """``fd`` itself; a device, a pipe or a folder is closed and refused."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    error = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(error, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")


@contextmanager
def opened(root: str, parts: Sequence[str], *, create: bool = False) -> Generator[Folder]:
    """The folder ``parts`` below ``root``, entered step by step; with ``create``, missing ones are made."""
    folder: Folder = (ByHandle if HAS_HANDLES else ByPath).root(root)
    try:
        for name in parts:
            below = _entered(folder, name, create)
            folder.close()
            folder = below
        yield folder
    finally:
        folder.close()


def _entered(folder: Folder, name: str, create: bool) -> Folder:
    try:
        return folder.enter(name)
    except FileNotFoundError:
        if not create:
            raise
    try:
        folder.make(name)
    except FileExistsError:
        pass  # somebody else was faster; if it is a link, entering it fails
    return folder.enter(name)


@contextmanager
def folder_of(place: Place, *, create: bool = False) -> Generator[tuple[Folder, str]]:
    """The folder that holds ``place``, and the name there. Raises `IsADirectoryError` for a root itself."""
    if not place.parts:
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    with opened(place.root, place.parts[:-1], create=create) as folder:
        yield folder, place.parts[-1]


def open_file(place: Place) -> int:
    """A descriptor of the regular file at ``place``, for reading. Raises `OSError`."""
    with folder_of(place) as (folder, name):
        return folder.open_file(name)


def listed(place: Place) -> list[Entry]:
    """What is in the folder at ``place``. Raises `OSError`: `NotADirectoryError` when it is none."""
    with opened(place.root, place.parts) as folder:
        return folder.entries()


def why(error: OSError) -> str:
    """What went wrong, in words without a path."""
    match error.errno:
        case errno.ENOENT:
            return "there is no such file or folder"
        case errno.ENOTDIR:
            return "a part of the path is no folder"
        case errno.ELOOP | errno.EMLINK:  # what O_NOFOLLOW says; EMLINK on FreeBSD
            return "a part of the path is a link that leads elsewhere, or became one just now"
        case errno.EISDIR:
            return "it is a folder"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full"
        case None:
            return "it could not be done"
        case number:
            return error.strerror if number == errno.EINVAL and error.strerror else os.strerror(number).lower()
