"""Commands that show what was said: nothing of it moves the terminal, whatever its length, and whoever stops reading may."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, HumanInputRequired, StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, calls, raw_call, say

HOSTILE = "<script>alert(1)</script> \x1b[2J\x1b]0;owned\x07 \x9b31m \u202eesrever\u2066 \r\x08 \ud800 "
MOVES = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))} - {
    "\n",
    "\t",
}
LONG = "0123456789" * 500_000


@tool(effects="pure")
def dump(what: str) -> str:
    """Dump."""
    return HOSTILE + LONG


@tool
def ask(question: str) -> str:
    """Ask the user."""
    raise HumanInputRequired(prompt=question)


@pytest.fixture
def session(commands: Any) -> str:
    async def make() -> None:
        script = [
            calls(raw_call("dump", f'{{"what": "{HOSTILE[:25]}"}}'), text=HOSTILE), say(HOSTILE + LONG),
            calls(raw_call("ask", '{"question": "\\u001b[2J\\u202e?"}')),
        ]  # fmt: skip
        config = AgentLoopConfig(context_tokens=100_000_000)
        async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=commands.dsn, tools=[dump, ask], config=config) as loop:
            await loop.new_session(session_id="hostile", metadata={HOSTILE: HOSTILE})
            await loop.send(HOSTILE, "hostile")
            await loop.send("and now?", "hostile")
            await loop.enqueue(HOSTILE, "hostile")
            await loop.schedule_timer("hostile", delay_s=60, note=HOSTILE[:-4])

    asyncio.run(make())
    return "hostile"


@pytest.mark.parametrize(
    "words",
    [
        ("sessions",), ("show", "hostile"), ("show", "hostile", "--records"), ("tail", "hostile", "--no-follow"), ("doctor", "hostile"),
        ("timers",), ("export", "hostile"), ("show", "hostile", "--json"), ("sessions", "--json"),
        ("tail", "hostile", "--no-follow", "--json"),
    ],
)  # fmt: skip
def test_nothing_that_was_said_moves_the_terminal(commands: Any, session: str, words: tuple[str, ...]) -> None:
    code, out, err = commands(*words)
    assert code in (0, 4)
    assert out.strip()
    assert not MOVES & set(out + err)


def run(folder: Path, *words: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "power_loop", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_whoever_stops_reading_is_not_told_of_a_broken_pipe(commands: Any, session: str) -> None:
    with run(commands.folder, "show", session, "--json", "--dsn", commands.dsn) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 1
        assert process.stderr.read() == ""


def test_ctrl_c_ends_a_command_that_follows_without_a_traceback(commands: Any, session: str) -> None:
    with run(commands.folder, "tail", session, "--dsn", commands.dsn) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 130
        assert process.stderr.read() == ""


@pytest.mark.parametrize("command", ["sessions", "timers"])
@pytest.mark.parametrize("limit", ["0", "-3", "many", "1.5", "²"])
def test_a_limit_that_counts_nothing_is_wrong_usage(commands: Any, command: str, limit: str) -> None:
    code, _, err = commands(command, f"--limit={limit}")
    assert (code, "no whole number above 0" in err) == (2, True)
