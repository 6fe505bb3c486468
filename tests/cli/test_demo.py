"""`make demo` as someone meets it who has just cloned: offline, twice, and then the command that it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm

MODEL_VARIABLES = ("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")


def run(command: list[str], folder: Path, code: int = 0, **settings: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(MODEL_VARIABLES)}
    done = subprocess.run(
        command, cwd=folder, env={**env, "PYTHONWARNINGS": warm.WARNINGS, **settings}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def demo(repo: Path) -> list[str]:
    return [sys.executable, str(repo / "examples" / "demo.py")]


def test_the_demo_goes_on_where_it_stopped_and_names_the_command_that_does_so_too(demo: list[str], tmp_path: Path) -> None:
    first = run(demo, tmp_path)
    assert first.startswith("Offline")
    assert "make demo MODEL=openai:gpt-4o-mini, or set POWER_LOOP_BASE_URL, POWER_LOOP_API_KEY, POWER_LOOP_MODEL." in first
    assert "convert {'value': 5, 'unit': 'mile', 'to': 'km'} -> 8.05 km" in first
    second = run(demo, tmp_path)
    assert "(user, before) I ran 5 miles." in second
    assert "(assistant, before) That is 8.05 km. I noted it." in second
    assert (tmp_path / "demo-notes.txt").read_text(encoding="utf-8") == "ran 8.05 km\nran 11.27 km\n"
    chat = second.splitlines()[-1].split()
    assert chat[1:] == ["chat", "demo", "--dsn", "demo.db"]
    assert "That is 11.27 km. I noted it." in run(chat, tmp_path)


def test_a_model_that_cannot_be_reached_is_named_without_a_traceback(demo: list[str], tmp_path: Path) -> None:
    nobody = {"POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1", "POWER_LOOP_API_KEY": "k", "POWER_LOOP_MODEL": "m"}
    told = run(demo, tmp_path, **nobody)
    assert "Offline" not in told
    assert "[degraded: LLM retry_exhausted" in told
    assert "http://127.0.0.1:9/v1/chat/completions" in told, "the address is what is wrong"


@pytest.mark.parametrize("half", [{"POWER_LOOP_API_KEY": "k"}, {"POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1", "POWER_LOOP_MODEL": "m"}])
def test_a_model_that_is_half_configured_is_not_passed_over_in_silence(demo: list[str], tmp_path: Path, half: dict[str, str]) -> None:
    told = run(demo, tmp_path, code=1, **half)
    assert "no model is configured: set POWER_LOOP_" in told
    assert "Offline" not in told
