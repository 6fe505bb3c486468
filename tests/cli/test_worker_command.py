"""``power-loop worker``: what it answers, how it stops, what it refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from power_loop import StatefulAgentLoop
from power_loop.cli import main

APP = """
from power_loop import StatefulAgentLoop
from power_loop.testing import FunctionLLM, say

def make_loop():
    return StatefulAgentLoop(llm=FunctionLLM(lambda request: say("answered by the app")), dsn="app.db", name="shop")

async def make_later():
    return make_loop()

def make_nothing():
    return None

def make_of(shop):
    return make_loop()

number = 7
"""


def left_a_word(folder: Path, agent: str) -> str:
    async def leave() -> str:
        async with StatefulAgentLoop(llm="echo:", dsn=str(folder / "app.db"), name=agent) as loop:
            session = await loop.new_session()
            await loop.enqueue("hello", session)
            return session

    return asyncio.run(leave())


def answer_to_it(folder: Path, session: str) -> str:
    """What was answered so far; empty when nothing was."""

    async def read() -> str:
        async with StatefulAgentLoop(llm="echo:", dsn=str(folder / "app.db")) as loop:
            return "".join(message["content"] for message in await loop.get_messages(session) if message["role"] == "assistant")

    return asyncio.run(read())


def until_answered(process: subprocess.Popen[str], folder: Path, session: str) -> None:
    """Look until the answer is there; the process says nothing more after its first line."""
    assert process.stdout is not None
    assert "drives sessions of" in process.stdout.readline()
    while not answer_to_it(folder, session) and process.poll() is None:
        continue


# acceptance: 139 (the command)
@pytest.mark.parametrize(
    ("options", "agent", "answer"),
    [
        (["--app", "app:make_loop"], "shop", "answered by the app"),
        (["--app", "app:make_later", "--concurrency", "1"], "shop", "answered by the app"),
        (["--dsn", "app.db", "--model", "echo:", "--agent", "*"], "anybody", "echo: <follow_up>"),
    ],
)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_what_waits_until_it_is_told_to_stop(
    tmp_path: Path, options: list[str], agent: str, answer: str, how: signal.Signals
) -> None:
    (tmp_path / "app.py").write_text(APP)
    session = left_a_word(tmp_path, agent)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("POWER_LOOP_", "OPENAI_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "power_loop", "worker", *options], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        until_answered(process, tmp_path, session)
        process.send_signal(how)
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()
    assert answer_to_it(tmp_path, session).startswith(answer)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--app", "app"], "MODULE:FACTORY"),
        (["--app", "nowhere:make"], "No module named 'nowhere'"),
        (["--app", "app:nothing"], "has no attribute 'nothing'"),
        (["--app", "app:number"], "not a function"),
        (["--app", "app:make_nothing"], "gave NoneType"),
        (["--app", "app:make_of"], "make_of is called without arguments: missing a required argument: 'shop'"),
        (["--app", "app:make_loop", "--dsn", "x.db"], "--app makes its own loop"),
    ],
)
def test_what_it_cannot_use_is_a_usage_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert main(["worker", *options]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*.db"))


def test_a_worker_for_nothing_at_once_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["worker", "--concurrency", "0"])
    assert refused.value.code == 2
    assert "--concurrency" in capsys.readouterr().err
