"""`power-loop tail` as a user meets it: a session of another process, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import warm

from power_loop import StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, calls


@tool(effects="pure")
def add(a: int) -> str:
    """Add up."""
    return f"sum {a}"


def tail(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONWARNINGS": warm.WARNINGS}
    done = warm.run(["-m", "power_loop", "tail", *arguments], cwd=folder, env=env)
    assert "Traceback" not in done.stderr
    return done


async def session_in(folder: Path) -> str:
    model = ScriptedLLM([calls(call("add", a=1), text="Wait."), "It is one."])
    async with StatefulAgentLoop(llm=model, dsn=str(folder / "app.db"), tools=[add]) as loop:
        return (await loop.run("Add one.")).session_id


# acceptance: 179 (tail)
async def test_a_session_is_shown_as_a_conversation(tmp_path: Path) -> None:
    session = await session_in(tmp_path)
    done = tail(tmp_path, session, "--dsn", "app.db", "--no-follow")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '> Add one.\nWait.\n  -> add {"a": 1}\n  <- sum 1\nIt is one.\n'


async def test_json_lines_can_be_gone_on_with_where_they_stopped(tmp_path: Path) -> None:
    session = await session_in(tmp_path)
    everything = tail(tmp_path, session, "--dsn", "app.db", "--no-follow", "--json").stdout.splitlines()
    events = [json.loads(line) for line in everything]
    assert events[-1]["type"] == "result"
    for n in (0, 4, len(events) - 1):
        rest = tail(tmp_path, session, "--dsn", "app.db", "--no-follow", "--json", "--after", events[n]["cursor"]).stdout.splitlines()
        assert [json.loads(line)["cursor"] for line in rest] == [event["cursor"] for event in events[n + 1 :]]


async def test_what_cannot_be_shown_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    session = await session_in(tmp_path)
    assert tail(tmp_path, "sess_none", "--dsn", "app.db").returncode == 3
    assert tail(tmp_path, session, "--dsn", "none.db").returncode == 3
    assert not (tmp_path / "none.db").exists()
    wrong = tail(tmp_path, session, "--dsn", "app.db", "--after", "soon")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert tail(tmp_path, session, "--dsn", "nosql://x").returncode == 2
