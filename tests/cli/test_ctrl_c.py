"""Ctrl-C in a chat on a real terminal: the answer stops, the session stays, and a second one leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="needs a Unix terminal")

LIMIT_S = 30.0
# The echo thinks this long; the tests press Ctrl-C as soon as the question is stored, so it never speaks in time.
SLOW_S = 3.0


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

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was shown; what stood before it is forgotten."""
        ends = time.monotonic() + LIMIT_S
        while text not in self.shown:
            assert time.monotonic() < ends, f"{text!r} was not shown within {LIMIT_S} s: {self.shown!r}"
            self.shown += os.read(self._ours, 4096).decode().replace("\r\n", "\n")
        self.shown = self.shown.split(text, 1)[1]

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
    slow_chat.press_ctrl_c()
    assert slow_chat.process.wait(LIMIT_S) == 0


def test_ctrl_c_twice_at_the_prompt_leaves_and_once_does_not(slow_chat: Terminal) -> None:
    slow_chat.wait_for("> ")
    slow_chat.press_ctrl_c()
    slow_chat.wait_for("(Ctrl-C again, Ctrl-D or /quit leaves)\n> ")
    slow_chat.type("/help")
    slow_chat.wait_for("> ")
    slow_chat.press_ctrl_c()
    slow_chat.wait_for("(Ctrl-C again, Ctrl-D or /quit leaves)\n> ")
    slow_chat.press_ctrl_c()
    assert slow_chat.process.wait(LIMIT_S) == 0
