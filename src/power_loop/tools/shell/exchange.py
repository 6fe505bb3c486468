"""One command said to a shell, and what it answers.

The shell reads commands from its standard input, which no command gets to see. What a command prints goes to the
shell's standard output; the shell's standard error is kept for the shell alone, and there it says how each command ended,
in words that are random for each command and that it is told only behind the command. So no command can swallow, print
or guess the end mark, and it works through anything that hands three streams on (``docker exec``, ``ssh``).
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from typing import Final

from power_loop.tools.shell.output import Output
from power_loop.tools.shell.processes import Started, has_ended

CHUNK = 64 * 1024
# Where the shell keeps its output for commands that redirect their own for good; high, out of the way of scripts.
SPARE = 99
# The output mark follows the end mark at once; it may be missing when the command closed the stream.
OUTPUT_MARK_S = 1.0
# Where the kernel does not tell that a process ended, it is looked at so often.
LOOK_S = 0.05
COMPLAINT_BYTES = 2000
# What the model reads for a here-document without end, which bash would run with a mere warning.
UNFINISHED = "bash: syntax error: the here-document is not finished: its last line with the delimiter alone is missing"

OPENING: Final = f"exec {SPARE}>&1; builtin printf '\\036ready\\036' >&2\n"
READY = b"\x1eready\x1e"


class Exchange:
    """One command under way, on the running event loop. `over` is done when the command is, or the shell has ended."""

    output: Output

    def __init__(self, started: Started, command: str, output: Output, *, first: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._started, self.output = started, output
        self._in, self._out, self._said = (stream.fileno() for stream in started.streams)
        token = os.urandom(16).hex()
        self._output_mark = f"\x1e{token}\x1e".encode()
        self._end_mark = re.compile(rf"\x1e{token} (\d+)\x1e".encode())
        self._to_write = memoryview(((OPENING if first else "") + spoken(command, token)).encode("utf-8"))
        self._held: bytes = b""
        self._heard: bytes = b""
        self._output_complete = False
        self.exit_code: int | None = None
        self.began: bool = not first
        """The shell is one: it took a command."""
        self.ended: bool = False
        """The shell itself has ended."""
        self.leftover: bytes = b""
        """What background processes printed after the command was done."""
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._exit_file: int | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._waiting: asyncio.TimerHandle | None = None

    def __enter__(self) -> Exchange:
        self._loop.add_reader(self._out, self._read_output)
        self._loop.add_reader(self._said, self._read_said)
        self._watch_exit()
        self._write()
        return self

    def __exit__(self, *exception: object) -> None:
        for fd in (self._out, self._said):
            self._loop.remove_reader(fd)
        self._loop.remove_writer(self._in)
        if self._exit_file is not None:
            self._loop.remove_reader(self._exit_file)
            os.close(self._exit_file)
            self._exit_file = None
        for timer in (self._looking, self._waiting):
            if timer is not None:
                timer.cancel()
        if not self._output_complete:
            self.output.feed(self._held)
            self._held = b""

    @property
    def complaint(self) -> str:
        """What the shell, or what should have started it, said for itself."""
        return self._heard[-COMPLAINT_BYTES:].decode("utf-8", "replace").strip()

    def drain(self) -> None:
        """Take what is in the pipes still; for when nobody writes any more."""
        for take, fd in ((self._take_output, self._out), (self._take_said, self._said)):
            # Not more than the largest pipe holds, in case somebody writes after all.
            for _ in range(64):
                data = _read(fd)
                if not data:
                    break
                take(data)

    # --- from the event loop ------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            self._to_write = self._to_write[os.write(self._in, self._to_write) :]
        except BlockingIOError:
            pass
        except OSError:  # the shell is gone: its end is noticed by itself
            self._to_write = self._to_write[:0]
        if self._to_write:
            self._loop.add_writer(self._in, self._write)
        else:
            self._loop.remove_writer(self._in)

    def _read_output(self) -> None:
        data = _read(self._out)
        if data == b"":
            self._loop.remove_reader(self._out)
        elif data is not None:
            self._take_output(data)

    def _read_said(self) -> None:
        data = _read(self._said)
        if data == b"":
            self._loop.remove_reader(self._said)
        elif data is not None:
            self._take_said(data)

    def _take_output(self, data: bytes) -> None:
        if self._output_complete:
            self.leftover += data
            return
        data = self._held + data
        before, mark, after = data.partition(self._output_mark)
        if mark:
            self.output.feed(before)
            self._output_complete, self._held, self.leftover = True, b"", after
            self._finish_if_complete()
            return
        # A part of the mark may stand at the end, the rest of it to come; anything else is there to be seen at once.
        keep = self._beginning_of_mark(data)
        self.output.feed(data[:keep])
        self._held = data[keep:]

    def _beginning_of_mark(self, data: bytes) -> int:
        """Where in ``data`` a part of the output mark begins that ends with it; its length when none does."""
        at = data.find(self._output_mark[:1], max(0, len(data) - len(self._output_mark) + 1))
        while at >= 0 and not self._output_mark.startswith(data[at:]):
            at = data.find(self._output_mark[:1], at + 1)
        return at if at >= 0 else len(data)

    def _take_said(self, data: bytes) -> None:
        self._heard += data
        if not self.began and READY in self._heard:
            self.began = True
        if found := self._end_mark.search(self._heard):
            self.exit_code = int(found[1])
            self._waiting = self._loop.call_later(OUTPUT_MARK_S, self._finish)
            self._finish_if_complete()
        # The mark may be cut anywhere, so a good piece of what came before stays.
        self._heard = self._heard[-2 * COMPLAINT_BYTES :]

    def _watch_exit(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._exit_file = os.pidfd_open(self._started.pid)
                self._loop.add_reader(self._exit_file, self._look)
                return
        self._look()

    def _look(self) -> None:
        if has_ended(self._started):
            self.ended = True
            self._finish()
        else:
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def _finish_if_complete(self) -> None:
        if self._output_complete and self.exit_code is not None:
            self._finish()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def spoken(command: str, token: str) -> str:
    """What the shell is told: run ``command`` with empty input and its own streams, then say how it ended.

    The marks are put together by the shell, so that a shell which prints what it reads (``set -v``, ``set -x``) prints none.
    Options that would end the shell at the next failure hold for one command only.
    """
    run = f"eval {quoted(command)}"
    if "<<" in command:
        look = f"( LC_ALL=C; \\builtin eval {quoted(f'set -n{chr(10)}{command}')} )"
        refuse = f"\\builtin printf '%s\\n' {quoted(UNFINISHED)}; (\\builtin exit 2)"
        warned = '*"here-document at line "*"delimited by end-of-file"*'
        run = f'case "$( {look} 2>&1 </dev/null {SPARE}>&- )" in {warned}) {refuse} ;; *) \\builtin {run} ;; esac'
    else:
        run = f"\\builtin {run}"
    told = f"\\builtin printf '\\036%s %d\\036' {token} $? >&2\n\\builtin printf '\\036%s\\036' {token} >&{SPARE}\n"
    return f"{{ {run}\n}} </dev/null >&{SPARE} 2>&1 {SPARE}>&-\n{told}\\builtin set +eu +o pipefail\n"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _read(fd: int) -> bytes | None:
    """What is there; None when nothing is, empty at the end."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
