"""A shell that lives on between commands, and what became of a command."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Literal, NamedTuple

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.to_end import unhurried
from power_loop.tools.shell.backend import ShellBackend
from power_loop.tools.shell.exchange import Exchange
from power_loop.tools.shell.output import Output
from power_loop.tools.shell.processes import Spawner, Started, disown, end, end_now, has_ended, send_signal, start

try:
    import fcntl
except ImportError:  # no pipes of a chosen size on this platform
    fcntl = None  # type: ignore[assignment]  # the module's absence is the value

Ended = Literal["done", "exited", "timeout", "cancelled"]

# A shell that a signal ended has this much more than the signal's number as its code, as shells say it.
SIGNALLED = 128
# As much as the kernel gives without asking; then a background process waits for a reader.
PIPE_BYTES = 1024 * 1024


class Ran(NamedTuple):
    """What became of one command."""

    ended: Ended
    """``done``; ``exited``: the shell itself ended; ``timeout`` and ``cancelled``: everything of it was ended."""
    exit_code: int | None
    """None when it was ended from outside."""
    output: Output


class Shell:
    """One bash, said commands one at a time. Usable from any event loop; of one process, not of its forks."""

    def __init__(self, started: Started, spawner: Spawner) -> None:
        self._started, self._spawner, self._pid = started, spawner, os.getpid()
        self._fresh, self._closed = True, False
        self._leftover: bytes = b""
        for stream in started.streams:
            os.set_blocking(stream.fileno(), False)
        _widen(started)

    @classmethod
    def start(cls, backend: ShellBackend, ws: str, spawner: Spawner) -> Shell:
        """A new shell. Raises `RuntimeEnvError` where it cannot be started, and what the backend raises."""
        argv, cwd, env = backend.launch_argv(ws), backend.launch_cwd(ws), backend.launch_env(ws)
        try:
            return cls(spawner.start(lambda: start(argv, cwd, env)), spawner)
        except (OSError, ValueError) as error:
            raise RuntimeEnvError(f"the shell {argv[0]!r} could not be started: {error}") from error

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def usable(self) -> bool:
        """It can be said another command."""
        return not self._closed and self._pid == os.getpid() and not has_ended(self._started)

    async def run(
        self, command: str, *, timeout_s: float | None, cancel: CancellationToken | None = None, grace_s: float = 2.0,
        output: Output | None = None,
    ) -> Ran:  # fmt: skip
        """Run ``command`` and wait for it; after ``timeout_s``, at the cancel, or when the caller is cancelled, end all of it.

        A cancelled caller's `CancelledError` passes through, unless ``cancel`` says the same: then what was printed is returned.
        Raises `RuntimeEnvError` when the shell ends before it begins, saying what it complained of.
        """
        assert not self._closed, "a shell that ended is replaced, not reused"
        exchange = Exchange(self._started, command, output if output is not None else Output(), first=self._fresh)
        exchange.output.feed(self._leftover)
        self._leftover = b""
        with exchange:
            try:
                how = await _first_of(exchange.over, cancel, timeout_s)
                if how != "done" or exchange.ended:
                    await unhurried(self._end(exchange, grace_s))
            except asyncio.CancelledError:
                with suppress(asyncio.CancelledError):
                    await unhurried(self._end(exchange, grace_s))
                if cancel is None or not cancel.is_cancelled():
                    raise
                how = "cancelled"
        return self._ran(how, exchange)

    def _ran(self, how: Ended, exchange: Exchange) -> Ran:
        if how != "done":
            return Ran(how, None, exchange.output)
        if exchange.ended and exchange.exit_code is None:
            self._refuse_if_it_never_began(exchange)
            code = self._started.popen.returncode
            return Ran("exited", SIGNALLED - code if code is not None and code < 0 else code, exchange.output)
        self._fresh, self._leftover = False, exchange.leftover
        return Ran("exited" if exchange.ended else "done", exchange.exit_code, exchange.output)

    def _refuse_if_it_never_began(self, exchange: Exchange) -> None:
        if not exchange.began:
            said = exchange.complaint or exchange.output.last(500).strip() or f"it ended with {self._started.popen.returncode}"
            raise RuntimeEnvError(f"the shell could not be started: {said}")

    async def _end(self, exchange: Exchange, grace_s: float) -> None:
        if not self._closed:
            await end(self._started, grace_s, before_closing=exchange.drain)
            self._is_gone()

    async def close(self, grace_s: float = 0.5) -> None:
        """End it and all that it started."""
        if not self._closed and self._pid == os.getpid():
            await unhurried(end(self._started, grace_s))
            self._is_gone()

    def close_now(self) -> None:
        """The same, for where nobody can await."""
        if not self._closed and self._pid == os.getpid():
            end_now(self._started)
            self._is_gone()

    def kill(self) -> None:
        """End what runs in it now; whoever waits for the command learns of it."""
        if not self._closed and self._pid == os.getpid():
            send_signal(self._started, signal.SIGKILL)

    def disown(self) -> None:
        """In a forked child: it is the parent's."""
        self._closed = True
        disown(self._started)

    def _is_gone(self) -> None:
        if not self._closed:
            self._closed = True
            self._spawner.ended()


async def _first_of(over: asyncio.Future[None], cancel: CancellationToken | None, timeout_s: float | None) -> Ended:
    cancelled = asyncio.ensure_future((cancel or CancellationToken.never()).wait())
    try:
        await asyncio.wait((over, cancelled), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancelled.cancel()
    if over.done():
        return "done"
    return "cancelled" if cancelled.done() and not cancelled.cancelled() else "timeout"


def _widen(started: Started) -> None:
    """Room in the output pipe for what background processes print between two commands."""
    if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # a user's share of pipe memory is bounded
            fcntl.fcntl(started.streams[1].fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
