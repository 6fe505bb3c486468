"""The processes that help to search: a child that matches and can be ended, and ripgrep, where there is one.

Neither decides anything: the child says what this process would say, and ripgrep only which files need no look.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from power_loop.tools.builtin.search_lines import LENGTH, Lines, Wanted, matching_lines, receive, send
from power_loop.tools.builtin.search_walk import SKIPPED_FOLDERS, Pattern
from power_loop.tools.env import Place

CHILD = "import sys; sys.path.append(sys.argv[1]); from power_loop.tools.builtin.search_lines import serve; serve(int(sys.argv[2]))"
PACKAGE_PARENT = str(Path(__file__).resolve().parents[3])


class TookTooLong(Exception):
    """The time for a search is over."""


class Matcher:
    """Says which lines of a file match, until a point in time. To be closed."""

    def __init__(self, wanted: Wanted, until: float, now: Callable[[], float] = time.monotonic) -> None:
        """Raises `re.error` for an expression that is none."""
        self._expression, self._needle = wanted.compiled(), wanted.needle
        self._until, self._now, self._ended = until, now, False
        self._child = None if wanted.plain else Child.started(wanted)

    def lines(self, fd: int, room: int) -> Lines:
        """At most ``room`` matching lines of the file behind ``fd``. Raises `TookTooLong`."""
        self._check()
        if self._child is None:
            return matching_lines(fd, self._expression, room, needle=self._needle, check=self._check)
        return self._child.lines(fd, room, self._until - self._now())

    def _check(self) -> None:
        if self._ended or self._now() >= self._until:
            raise TookTooLong

    def end(self) -> None:
        """Break off what another thread matches."""
        self._ended = True
        if self._child is not None:
            self._child.end()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()


class Child:
    """A process of our own that matches, so that an expression without end can be ended."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self._process, self._link = process, link

    @classmethod
    def started(cls, wanted: Wanted) -> Self | None:
        """None where there is no way to start one, or to hand files over."""
        if not hasattr(socket, "send_fds") or not re.match("(python|pypy)", os.path.basename(sys.executable or "")):
            return None
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-S", "-c", CHILD, PACKAGE_PARENT, str(theirs.fileno())]
        try:
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env={}, stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError:
            ours.close()
            return None
        finally:
            theirs.close()
        child = cls(process, ours)
        send(ours, json.dumps(wanted._asdict()).encode())
        return child

    def lines(self, fd: int, room: int, timeout_s: float) -> Lines:
        self._link.settimeout(timeout_s)
        try:
            socket.send_fds(self._link, [LENGTH.pack(room)], [fd])
            return [(number, text) for number, text in json.loads(receive(self._link))]
        except (TimeoutError, EOFError, ConnectionError) as error:
            raise TookTooLong from error

    def end(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.wait()


# --- ripgrep -----------------------------------------------------------------------------------------

# Expressions that mean the same here and in ripgrep, for lines of ASCII.
_COMMON = re.compile(
    r"""(?x) (?:
      [^\\\[\](){}*+?|^$.]                                # a character that means itself
    | \\[wWdDsSbB.^$*+?()\[\]{}|\\/"'-]                  # a class, or a sign made plain
    | \[\^?(?:[^\\\[\]&~-]|[A-Za-z0-9]-[A-Za-z0-9]|\\[wds.\-\]\[\\])+\]
    | \((?:\?:)? | \) | [|.^$]
    | (?<![*+?|(^]) (?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\?? (?![*+?{])
    )+"""
)
# Where the two may differ: what is not ASCII, line endings with a carriage return, separators that only one takes for blanks.
_NEED_A_LOOK = r"(?-u)[\x80-\xff]|[\x00\r\x1c-\x1f]"


# ripgrep holds a whole line; a larger file may be one, so it is read here, piece by piece.
LARGE_BYTES = 64 * 1024 * 1024


def worth_a_look(place: Place, wanted: Wanted, pattern: Pattern, *, hidden: bool, timeout_s: float) -> frozenset[str] | None:
    """The files below ``place`` that may match, as paths from there, without large ones; None when ripgrep cannot say."""
    program = shutil.which("rg")
    if program is None or not (wanted.literal or _COMMON.fullmatch(wanted.pattern)):
        return None
    # Not re.escape: it makes signs plain that ripgrep does not know to be more.
    expression = re.sub(r"[]\\.^$*+?(){}|[]", r"\\\g<0>", wanted.pattern) if wanted.literal else wanted.pattern
    if not wanted.pattern.isascii() or "\n" in wanted.pattern or "\r" in wanted.pattern:
        return None
    command = [program, "--no-config", "--no-messages", "--files-with-matches", "--null", "--no-ignore", "--text"]
    command += [f"--max-filesize={LARGE_BYTES}"]
    command += [] if wanted.case_sensitive else ["--ignore-case"]
    command += ["--hidden"] if hidden or pattern.names_hidden else []
    command += [f"--glob=!{name}/" for name in sorted(SKIPPED_FOLDERS - pattern.named)]
    try:
        done = subprocess.run(
            [*command, "-e", expression, "-e", _NEED_A_LOOK, "--", "."],
            cwd=place.path, env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode not in (0, 1):
        return None
    return frozenset(os.fsdecode(path).removeprefix("./") for path in done.stdout.split(b"\0"))
