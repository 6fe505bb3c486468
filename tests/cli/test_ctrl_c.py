"""Ctrl-C in a chat on a real terminal: the answer stops, the session stays, and a second one leaves."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="needs a Unix terminal")

LIMIT_S = 100.0
# Between two presses that shall not count as two: a chat needs less to say that it noticed the first.
PATIENCE_S = 10.0
# The echo thinks this long; the tests press Ctrl-C as soon as the question is stored, so it never speaks in time.
SLOW_S = 6.0


class Terminal:
    """A `power-loop chat` with a terminal of its own."""

    def __init__(self, folder: Path, *, echo_sleep_s: float) -> None:
        self.database = folder / "app.db"
        ours, theirs = pty.openpty()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POWER_LOOP_")}
        env = {**kept, "TERM": "dumb", "POWER_LOOP_PROVIDER": "echo", "POWER_LOOP_ECHO_SLEEP": str(echo_sleep_s)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "power_loop", "chat", "--dsn", str(self.database)],
            stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._ours, self.shown = ours, ""

    def type(self, line: str) -> None:
        os.write(self._ours, line.encode() + b"\n")

    def press_ctrl_c(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def press_ctrl_c_at_the_prompt(self, happened: Callable[[], bool]) -> None:
        """Press until it ``happened``: `input()` does not see a signal that comes between showing its prompt and waiting."""
        for _ in range(int(LIMIT_S / PATIENCE_S)):
            self.press_ctrl_c()
            ends = time.monotonic() + PATIENCE_S
            while time.monotonic() < ends:
                self._read(0.05)
                if happened():
                    return
        raise AssertionError(f"nothing happened within {LIMIT_S} s: {self.shown!r}")

    def has_left(self) -> bool:
        return self.process.poll() is not None

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was shown; what stood before it is forgotten."""
        ends = time.monotonic() + LIMIT_S
        while text not in self.shown:
            assert time.monotonic() < ends, f"{text!r} was not shown within {LIMIT_S} s: {self.shown!r}"
            self._read(1.0)
        self.shown = self.shown.split(text, 1)[1]

    def _read(self, timeout_s: float) -> None:
        if select.select([self._ours], [], [], timeout_s)[0]:
            with contextlib.suppress(OSError):  # the other side is gone
                self.shown += os.read(self._ours, 4096).decode().replace("\r\n", "\n")

    def wait_until_said(self, text: str) -> None:
        """Wait until the user's ``text`` is stored, so its send is under way."""
        ends = time.monotonic() + LIMIT_S
        while True:
            with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
                (found,) = connection.execute("SELECT count(*) FROM pl_messages WHERE content = ?", (text,)).fetchone()
            connection.close()
            if found:
                return
            assert time.monotonic() < ends, f"{text!r} was not stored within {LIMIT_S} s"
            time.sleep(0.01)  # polls a condition of another process

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def slow_chat(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, echo_sleep_s=SLOW_S)
    yield terminal
    terminal.close()


# acceptance: 179 (Ctrl-C)
def test_ctrl_c_cancels_the_send_and_the_next_line_is_answered(slow_chat: Terminal) -> None:
    slow_chat.wait_for("> ")
    slow_chat.type("one")
    slow_chat.wait_until_said("one")
    slow_chat.press_ctrl_c()
    slow_chat.wait_for("[cancelled by user]\n> ")
    slow_chat.type("two")
    slow_chat.wait_for("echo: two")
    slow_chat.wait_for("> ")
    slow_chat.type("/quit")
    assert slow_chat.process.wait(LIMIT_S) == 0


def test_ctrl_c_after_a_cancelled_send_leaves(slow_chat: Terminal) -> None:
    slow_chat.wait_for("> ")
    slow_chat.type("one")
    slow_chat.wait_until_said("one")
    slow_chat.press_ctrl_c()
    slow_chat.wait_for("[cancelled by user]\n> ")
    slow_chat.press_ctrl_c_at_the_prompt(slow_chat.has_left)
    assert slow_chat.process.returncode == 0


def test_ctrl_c_twice_at_the_prompt_leaves_and_once_does_not(slow_chat: Terminal) -> None:
    hint = "(Ctrl-C again, Ctrl-D or /quit leaves)\n> "
    for _ in range(2):
        slow_chat.wait_for("> ")
        slow_chat.press_ctrl_c_at_the_prompt(lambda: hint in slow_chat.shown)
        slow_chat.wait_for(hint)
        slow_chat.type("/help")
    slow_chat.wait_for("> ")
    slow_chat.press_ctrl_c_at_the_prompt(lambda: hint in slow_chat.shown)
    slow_chat.press_ctrl_c_at_the_prompt(slow_chat.has_left)
    assert slow_chat.process.returncode == 0
