"""`power-loop run`: one prompt, one outcome."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

APP = '''
from power_loop import HumanInputRequired, StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, fail, say


@tool
def boss() -> str:
    """Ask the boss."""
    raise HumanInputRequired("May I?")


def waits():
    return StatefulAgentLoop(llm=ScriptedLLM([call("boss")]), dsn="own.db", tools=[boss])


def breaks():
    return StatefulAgentLoop(llm=ScriptedLLM([fail(ValueError("no"))]), dsn="own.db")
'''


# acceptance: 179 (run)
def test_the_outcome_is_one_json_object_and_the_session_goes_on(commands: Any) -> None:
    first = commands.json("run", "Name a colour.")
    assert (first["status"], first["final_text"], first["send_index"]) == ("completed", "echo: Name a colour.", 1)
    again = commands.json("run", "And another?", "--session", first["session_id"])
    assert (again["session_id"], again["send_index"]) == (first["session_id"], 2)
    code, out, _ = commands("run", "Short.", "--text")
    assert (code, out) == (0, "echo: Short.\n")


def test_a_prompt_comes_from_standard_input_too(commands: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert commands.json("run", "-")["final_text"] == "echo: from a pipe"


@pytest.mark.parametrize("words", [("run", "-"), ("import", "-"), ("workflow", "run", "-")])
def test_what_is_piped_in_and_is_no_text_is_refused_not_replaced(
    commands: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": "caf\xe9"}'), encoding="utf-8"))
    code, out, err = commands(*words)
    assert (code, out) == (2, "")
    assert "standard input cannot be read" in err
    assert "0xe9" in err
    assert not (commands.folder / "app.db").exists()


def test_the_same_key_gives_the_same_outcome_once(commands: Any) -> None:
    first, again = commands.json("run", "once", "--key", "job-1"), commands.json("run", "once", "--key", "job-1")
    assert (again["session_id"], again["send_index"], again["final_text"]) == (first["session_id"], 1, "echo: once")
    assert len(commands.json("show", first["session_id"])["messages"]) == 2


def test_a_system_prompt_is_kept_and_tools_work_in_the_workspace(commands: Any) -> None:
    (commands.folder / "prompt.txt").write_text("Be brief.")
    result = commands.json("run", "hi", "--system", "prompt.txt", "--tools", "explore", "--workspace", ".")
    assert commands.json("show", result["session_id"])["system_prompt"] == "Be brief."


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", " "), 2, "the prompt is empty"),
        (("run", "x", "--session", "gone"), 3, "there is no database"),
        (("run", "x", "--tools", "core"), 2, "--workspace"),
        (("run", "x", "--tools", "core", "--workspace", "nowhere"), 2, "no folder nowhere"),
        (("run", "x", "--workspace", "."), 2, "--tools"),
        (("run", "x", "--tools", "all"), 2, "invalid choice"),
        (("run", "x", "--system", "missing.txt"), 2, "--system"),
        (("run", "x", "--max-rounds", "0"), 2, "--max-rounds"),
        (("run", "x", "--app", "a:b"), 2, "--app makes its own loop"),
        (("run",), 2, "PROMPT"),
    ],
)
def test_wrong_usage_is_one_line_and_a_code(commands: Any, words: tuple[str, ...], code: int, said: str) -> None:
    assert (found := commands(*words))[0] == code
    assert said in found[2]
    assert "Traceback" not in found[2]


def test_an_unknown_session_of_a_database_is_not_found(commands: Any) -> None:
    commands.json("run", "x")
    code, _, err = commands("run", "x", "--session", "gone")
    assert (code, err.startswith("power-loop: ")) == (3, True)


def test_a_host_s_own_loop_says_4_while_it_waits_and_1_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from power_loop.cli import main

    (tmp_path / "shop_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["run", "x", "--app", "shop_app:waits"]) == 4
    assert '"waiting_for_input"' in capsys.readouterr().out
    assert main(["run", "x", "--app", "shop_app:breaks"]) == 1
