"""Tables and colours: where they are shown, and that nothing in them commands a terminal."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from power_loop.cli.pretty import console_on, table, transcript, working

HOSTILE = "[red]no markup[/red] \x1b[2J\x1b]0;title\x07 :smile:"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    console = console_on(Terminal())
    assert console is not None
    return console


def test_what_a_model_said_is_shown_as_it_is_and_harmless(console: Any) -> None:
    assert table(["session", "text"], [["s", HOSTILE]], console=console)
    assert transcript([f"> {HOSTILE}", "  -> look {}", "plain"], console=console)
    shown = console.file.getvalue()
    assert "[red]no markup[/red]" in shown
    assert ":smile:" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown


@pytest.mark.parametrize("why", ["a pipe", "NO_COLOR", "a dumb terminal", "no rich"])
def test_elsewhere_lines_are_plain(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO() if why == "a pipe" else Terminal()
    if why == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    elif why == "a dumb terminal":
        monkeypatch.setenv("TERM", "dumb")
    elif why == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stdout", stream)
    assert console_on(stream) is None
    assert not table(["a"], [["b"]])
    assert not transcript(["> hi"])
    assert stream.getvalue() == ""


def test_what_can_be_copied_is_never_folded_and_a_table_that_is_too_wide_is_plain_lines(console: Any) -> None:
    session = "sess_" + "0123456789abcdef" * 2
    console.width = 60
    assert table(["session", "metadata"], [[session, "several words " * 9]], console=console)
    assert session in console.file.getvalue()
    console.width = 40
    assert not table(["session", "metadata"], [[session, "x"]], console=console)


def test_long_work_says_what_it_does_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for stream, said in ((Terminal(), "exporting s …\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        with working("exporting s"):
            pass
        assert stream.getvalue() == said


def test_long_work_shows_a_bar_on_a_terminal_with_rich_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with working(f"exporting {HOSTILE}"):
        pass
    shown = stream.getvalue()
    for part in ("exporting [red]no markup[/red]", "━", "0:00:00"):
        assert part in shown
    assert "\x1b[2J" not in shown
    assert shown.endswith("\x1b[2K")  # the line is cleared
