"""Slices of a file, read as a stream: what is held is the slice, however long the file or its lines are."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import NamedTuple

from power_loop.tools.builtin.text import Encoding

CHUNK_BYTES = 256 * 1024
# More of a slice is not held: as much as a whole file may have that is read without a limit.
MAX_SLICE_BYTES = 5 * 1024 * 1024


class Slice(NamedTuple):
    """Some lines of a file, without their endings."""

    lines: list[str]
    total: int
    """How many lines the file has."""
    cut: bool = False
    """The last of ``lines`` goes on, or lines that were asked for are not there: the slice is as large as one may be."""


def utf8_chunks(fd: int, encoding: Encoding) -> Iterator[bytes]:
    """The file behind ``fd``, from its beginning, without its mark; other encodings become UTF-8."""
    os.lseek(fd, len(encoding.mark), os.SEEK_SET)
    if encoding.codec == "utf-8":
        while chunk := os.read(fd, CHUNK_BYTES):
            yield chunk
        return
    decoder = codecs.getincrementaldecoder(encoding.codec)("replace")
    while chunk := os.read(fd, CHUNK_BYTES):
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def read_slice(fd: int, encoding: Encoding, first: int, count: int) -> Slice:
    """At most ``count`` lines from line ``first`` (1-based) on; all of the file is counted."""
    collected = _Collected(first, first + count - 1)
    for chunk in utf8_chunks(fd, encoding):
        collected.take(chunk)
    return collected.slice()


class _Collected:
    """The lines from ``first`` to ``last`` of what was taken so far."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._at = 1
        self._unfinished = False
        self._pieces: list[bytes] = []
        self._held = 0
        self._cut = False

    def take(self, chunk: bytes) -> None:
        ends = chunk.count(b"\n")
        if not self._cut and self._at <= self._last and self._at + ends >= self._first:
            self._hold(chunk)
        self._at += ends
        if chunk:
            self._unfinished = not chunk.endswith(b"\n")

    def _hold(self, chunk: bytes) -> None:
        start = 0
        for _ in range(self._first - self._at):
            start = chunk.index(b"\n", start) + 1
        end = start
        for _ in range(self._last - max(self._at, self._first) + 1):
            if not (found := chunk.find(b"\n", end) + 1):
                end = len(chunk)
                break
            end = found
        room = MAX_SLICE_BYTES - self._held
        self._pieces.append(chunk[start : min(end, start + room)])
        self._held += len(self._pieces[-1])
        self._cut = end - start > room

    def slice(self) -> Slice:
        held = b"".join(self._pieces).decode("utf-8", "replace")
        lines = held.split("\n")
        if lines[-1] == "" and not self._cut:
            lines.pop()
        total = self._at - 1 + self._unfinished
        return Slice([line.removesuffix("\r") for line in lines], total, self._cut)


def same_bytes(fd: int, data: bytes) -> bool:
    """Does the file behind ``fd`` hold exactly ``data``?"""
    if os.fstat(fd).st_size != len(data):
        return False
    os.lseek(fd, 0, os.SEEK_SET)
    at = 0
    while chunk := os.read(fd, CHUNK_BYTES):
        if chunk != data[at : at + len(chunk)]:
            return False
        at += len(chunk)
    return at == len(data)


def read_all(fd: int) -> bytes:
    """The whole file behind ``fd``."""
    os.lseek(fd, 0, os.SEEK_SET)
    pieces: list[bytes] = []
    while chunk := os.read(fd, 1024 * 1024):
        pieces.append(chunk)
    return b"".join(pieces)
