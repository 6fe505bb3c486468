"""Which lines of a file match. Also the program of a child process that says so, for expressions that may take for ever.

Python cannot interrupt an expression, and nothing else runs meanwhile; a child process can be ended.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from power_loop.contracts.text import encodes
from power_loop.tools.builtin.slices import utf8_chunks
from power_loop.tools.builtin.text import SNIFFED_BYTES, encoding_of

# A longer line is searched in pieces of this size, so that no line has to be held whole.
MAX_LINE_BYTES = 1024 * 1024
MAX_SHOWN_CHARS = 500

LENGTH = struct.Struct("!I")
"""Before each message between the processes stands its length."""


class Wanted(NamedTuple):
    """What is looked for in each line."""

    pattern: str
    literal: bool = False
    case_sensitive: bool = True

    @property
    def plain(self) -> bool:
        """It repeats nothing, so that searching takes no longer than reading."""
        return self.literal or not any(sign in self.pattern for sign in "*+?{")

    @property
    def needle(self) -> bytes | None:
        """Bytes that stand in every line that matches; None where none are known."""
        known = self.literal and self.case_sensitive and encodes(self.pattern) and "\ufffd" not in self.pattern
        return self.pattern.encode() if known else None

    def compiled(self) -> re.Pattern[str]:
        """Raises `re.error`, and `OverflowError` or `RecursionError` for one that is too large."""
        return re.compile(re.escape(self.pattern) if self.literal else self.pattern, 0 if self.case_sensitive else re.IGNORECASE)


Lines = list[tuple[int, str]]


def matching_lines(
    fd: int, expression: re.Pattern[str], room: int, *, needle: bytes | None = None, check: Callable[[], None] | None = None
) -> Lines:
    """(number, text) of at most ``room`` lines that match in the file behind ``fd``; none in a binary one.

    ``needle``: a line without it does not match. ``check`` is called before each piece of the file that is read, and may raise.
    """
    encoding = encoding_of(os.read(fd, SNIFFED_BYTES))
    found: Lines = []
    if encoding is None:
        return found
    for number, line in numbered_lines(_checked(utf8_chunks(fd, encoding), check), needle):
        text = line.decode("utf-8", "replace")
        if (match := expression.search(text)) is not None:
            found.append((number, shown(text, match.start())))
            if len(found) == room:
                break
    return found


def _checked(chunks: Iterator[bytes], check: Callable[[], None] | None) -> Iterator[bytes]:
    for chunk in chunks:
        if check is not None:
            check()
        yield chunk


def numbered_lines(chunks: Iterator[bytes], needle: bytes | None = None) -> Iterator[tuple[int, bytes]]:
    """Lines without their endings, counted from 1; a piece of a long line has the line's number.

    Many lines are passed over at once where none of them has the ``needle``.
    """
    number, rest = 1, b""
    for chunk in chunks:
        if needle is not None and (end := chunk.rfind(b"\n") + 1) and needle not in (whole := rest + chunk[:end]):
            number += whole.count(b"\n")
            rest = chunk[end:]
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield number, line.removesuffix(b"\r")
            number += 1
        if len(rest) > MAX_LINE_BYTES:
            yield number, rest
            rest = b""
    if rest:
        yield number, rest.removesuffix(b"\r")


def shown(text: str, at: int) -> str:
    """A long line is shown around the place of its match."""
    first = max(0, at - 100) if at > MAX_SHOWN_CHARS - 100 else 0
    last = first + MAX_SHOWN_CHARS
    return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")


# --- the child process ----------------------------------------------------------------------------------


def serve(fd: int) -> None:
    """Answer for one file after the other, as the parent hands them over, until it hangs up."""
    with socket.socket(fileno=fd) as parent:
        expression = Wanted(**json.loads(receive(parent))).compiled()
        while True:
            message, files, _, _ = socket.recv_fds(parent, LENGTH.size, 1)
            if not files:
                return
            found = matching_lines(files[0], expression, LENGTH.unpack(message)[0])
            os.close(files[0])
            send(parent, json.dumps(found).encode())


def send(to: socket.socket, message: bytes) -> None:
    to.sendall(LENGTH.pack(len(message)) + message)


def receive(source: socket.socket) -> bytes:
    """Raises `EOFError` when the other side is gone."""
    return _exactly(source, LENGTH.unpack(_exactly(source, LENGTH.size))[0])


def _exactly(source: socket.socket, count: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        piece = source.recv(min(count, 65536))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
