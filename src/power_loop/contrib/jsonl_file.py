"""Files of events: one that is appended to and rotated, and how all of its rotations are read back in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from power_loop.contracts.events import AgentEvent


class RotatingFile:
    """A file that moves to ``path.1``, and that to ``path.2``, when the next line would make it longer than ``max_bytes``."""

    path: Path

    def __init__(self, path: Path, max_bytes: int, backup_count: int) -> None:
        self.path, self._max_bytes, self._backups = path, max_bytes, backup_count
        self._file: IO[bytes] | None = None
        self._size = 0

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more can be written before it is rotated; False while it is not open."""
        return self._file is not None and (not self._backups or self._size + size <= self._max_bytes)

    def write(self, line: str) -> None:
        data = line.encode()
        if self._backups and self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        file = self._file or self._open()
        try:
            self._size += file.write(data)
        except OSError:
            self._drop()
            raise

    def flush(self, *, sync: bool) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError:
            self._drop()
            raise

    def look(self) -> None:
        """Somebody may have moved the file away, to rotate it himself: then the next line begins another one."""
        if self._file is not None and not _stands_at(self._file, self.path):
            self._drop()

    def close(self) -> None:
        if self._file is not None:
            self._drop()

    def _open(self) -> IO[bytes]:
        """The file to append to. Behind a torn last line a new one begins, so that it spoils nothing else."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")
        self._size = file.tell()
        if self._size and not _ends_a_line(self.path):
            self._size += file.write(b"\n")
        self._file = file
        return file

    def _drop(self) -> None:
        """Forget the file; the next line opens it again. What it could not write is lost."""
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            try:
                file.close()
            except OSError:
                return

    def _rotate(self) -> None:
        self.close()
        for n in range(self._backups, 0, -1):
            older, newer = _numbered(self.path, n), _numbered(self.path, n - 1)
            if newer.exists():
                newer.replace(older)


def replay(path: str | os.PathLike[str]) -> Iterator[AgentEvent]:
    """The events in the file and those that were rotated away from it, oldest first, with their own seq, ts and mono.

    A line that is no event, such as a torn last one, is passed over. What is rotated meanwhile is read all the same, once.
    Raises `FileNotFoundError` where there is no such file.
    """
    first = Path(path)
    with ExitStack() as held:
        files = [held.enter_context(file) for file in _opened(first)]
        if not files:
            raise FileNotFoundError(f"there is no file {str(first)!r} to replay")
        for file in reversed(files):
            yield from filter(None, map(_event, file))


def _opened(first: Path) -> Iterator[IO[bytes]]:
    """The file and those rotated away from it, the newest first: a rotation in between only shows one of them again."""
    rotated = sorted(n for n in map(_number_of(first), first.parent.glob(f"{_glob_safe(first.name)}.*")) if n)
    seen: set[tuple[int, int]] = set()
    for n in (0, *rotated, *((rotated[-1] + 1,) if rotated else (1,))):
        try:
            file = _numbered(first, n).open("rb")
        except FileNotFoundError:
            continue
        about = os.fstat(file.fileno())
        if (about.st_dev, about.st_ino) in seen:
            file.close()
            continue
        seen.add((about.st_dev, about.st_ino))
        yield file


def _event(line: bytes) -> AgentEvent | None:
    try:
        told: Any = json.loads(line)
        return AgentEvent.from_dict(told)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _numbered(path: Path, n: int) -> Path:
    return path if n == 0 else path.with_name(f"{path.name}.{n}")


def _number_of(first: Path) -> Any:
    def number(path: Path) -> int:
        ending = path.name[len(first.name) + 1 :]
        return int(ending) if ending.isdecimal() else 0

    return number


def _glob_safe(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _stands_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
