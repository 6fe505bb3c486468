"""Writing a file whole or not at all, over exactly the version that the session has read."""

from __future__ import annotations

import errno
import os
import secrets
import stat

from power_loop.tools.builtin.given import SessionMemory, Stamp
from power_loop.tools.env import Place
from power_loop.tools.folders import Folder, folder_of

# How the files begin that a killed write may leave; nothing here lists or searches them.
TEMPORARY = ".power-loop-write-"
# What file systems say that have no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Refused(ValueError):
    """The file may not be changed; the text says why, and what to do first."""


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def check_read(memory: SessionMemory, place: Place, found: Stamp) -> None:
    """Raises `Refused` unless the session has read the file as ``found`` says it is now."""
    seen = memory.seen(place.path)
    if seen is None:
        raise Refused(f"{place.shown} has not been read in this session: read it with read_file first")
    if seen != found:
        raise Refused(f"{place.shown} has changed since it was read: read it again with read_file")


def save(place: Place, data: bytes, expected: Stamp | None) -> Stamp:
    """Make ``data`` the content of the file; its new stamp. Folders on the way to a new file are made.

    ``expected``: the version that is replaced; None: there must be none. A crash leaves the old content or the new one.
    Raises `Refused` when the file is another by now, and `OSError`.
    """
    with folder_of(place, create=expected is None) as (folder, name):
        old = _current(folder, name, place, expected)
        temporary = TEMPORARY + secrets.token_hex(8)
        try:
            stamp = _written(folder, temporary, data, old)
            if old is None:
                _put_in_free_place(folder, temporary, name, place)
            else:
                _current(folder, name, place, expected)
                folder.move(temporary, name)
        except BaseException:
            _remove(folder, temporary)
            raise
        folder.settle()
        return stamp


def _current(folder: Folder, name: str, place: Place, expected: Stamp | None) -> os.stat_result | None:
    """The status of the file that is replaced; None for a new one. Raises `Refused` when it is not as ``expected``."""
    try:
        status = folder.status(name)
    except FileNotFoundError:
        if expected is None:
            return None
        raise Refused(f"{place.shown} is gone since it was read") from None
    if expected is None:
        raise Refused(f"{place.shown} was made by somebody else just now: read it first")
    if not stat.S_ISREG(status.st_mode) or stamp_of(status) != expected:
        raise Refused(f"{place.shown} has changed since it was read: read it again with read_file")
    if not status.st_mode & 0o222:
        raise Refused(f"{place.shown} is write-protected (mode {stat.S_IMODE(status.st_mode):o})")
    return status


def _written(folder: Folder, name: str, data: bytes, old: os.stat_result | None) -> Stamp:
    """A new file that holds ``data`` on the disk, with owner and mode of ``old``."""
    fd = folder.create(name, 0o666 if old is None else 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if old is not None:
            _take_after(fd, old)
        os.fsync(fd)
        return stamp_of(os.fstat(fd))
    finally:
        os.close(fd)


def _take_after(fd: int, old: os.stat_result) -> None:
    if not hasattr(os, "fchmod"):
        return
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:
            pass  # only a superuser may give files away; the content matters more
    os.fchmod(fd, stat.S_IMODE(old.st_mode))


def _put_in_free_place(folder: Folder, temporary: str, name: str, place: Place) -> None:
    """A second name instead of a new one: it is refused where somebody was faster."""
    try:
        folder.link(temporary, name)
    except FileExistsError:
        raise Refused(f"{place.shown} was made by somebody else just now: read it first") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _current(folder, name, place, None)
        folder.move(temporary, name)
    else:
        folder.remove(temporary)


def _remove(folder: Folder, name: str) -> None:
    try:
        folder.remove(name)
    except FileNotFoundError:
        pass  # it was not made yet, or bears its final name already
