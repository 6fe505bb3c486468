"""Commands that are used wrongly, or fail: one clear line, the documented exit code, and nothing is made or changed on the way."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from power_loop import StatefulAgentLoop
from power_loop.cli import main
from power_loop.cli.exits import complain
from power_loop.store.archive_json import COUNTS
from power_loop.testing import ScriptedLLM

FAR = "9" * 30
BAD = "a\udcff"


@pytest.fixture
def session(commands: Any) -> str:
    async def make() -> None:
        async with StatefulAgentLoop(llm=ScriptedLLM(["hello"]), dsn=commands.dsn) as loop:
            await loop.new_session(session_id="s")
            await loop.send("hi", "s")
            await loop.new_session(session_id="empty")

    asyncio.run(make())
    return "s"


def tables(path: str) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return sorted(name for (name,) in connection.execute("SELECT name FROM sqlite_master"))
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        *((words, 3, "no session 'a\\udcff'") for words in (("show", BAD), ("export", BAD), ("fork", BAD), ("doctor", BAD), ("tail", BAD))),
        *((words, 3, "no session 'a\\udcff'") for words in (("chat", BAD), ("run", "hi", "--session", BAD), ("timers", BAD))),
        (("workflow", "list", "--session", "nobody"), 3, "no session 'nobody'"),
        (("workflow", "resume", BAD), 3, "there is no run"),
        (("show", "s", "--send", "9", "--records"), 3, "has no send 9"),
        (("fork", "s", "--at", "9"), 3, "has no send 9"),
        (("fork", "s", "--at", FAR), 3, "has no send 9999"),
        (("run", "hi", "--key", BAD), 2, "--key"),
        (("run", "hi", "--key", ""), 2, "--key"),
        (("run", "hi", "--max-rounds", "0"), 2, "--max-rounds"),
        (("worker", "--concurrency", "0"), 2, "'0' is no whole number above 0"),
        (("timers", "s", "--cancel", FAR), 2, "--cancel"),
        (("timers", "--limit", FAR), 2, "--limit"),
        (("sessions", "--limit", FAR), 2, "--limit"),
        (("timers", "s", "--in", "5"), 2, "--add"),
        (("timers", "s", "--every", "5"), 2, "--add"),
        (("timers", "s", "--fire"), 2, "--fire"),
        (("inspect", "--prefix", "a b"), 2, "table prefix 'a b'"),
        (("run", "hi", "--text", "--json"), 2, "give one of them"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_changes_nothing(
    commands: Any, session: str, words: tuple[str, ...], code: int, said: str
) -> None:
    before = commands.json("sessions", "--all")
    given, out, err = commands(*words)
    assert (given, out) == (code, ""), err
    assert said in err
    assert err.splitlines()[-1].startswith("power-loop")
    assert commands.json("sessions", "--all") == before


def test_a_database_whose_name_was_left_empty_is_not_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["chat", "--dsn", ""]) == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80PNG\xff", "is no JSON"),
        *(
            (f'"cost": {cost}'.encode(), ".cost: expected a number of at least 0")
            for cost in ("1" + 20 * "0", "1" + 400 * "0", "-1", "true")
        ),
    ],
)
def test_an_archive_that_is_not_sound_is_refused_as_one(commands: Any, session: str, tmp_path: Path, content: bytes, said: str) -> None:
    if content.startswith(b'"cost"'):
        _, archive, _ = commands("export", "s")
        charge = {"charged_session": "x", "purpose": "round", "of_send": 1, **dict.fromkeys(COUNTS, 0)}
        whole = json.dumps({**json.loads(archive), "charges": [{**charge, "cost": "HERE"}]}).encode()
        content = whole.replace(b'"cost": "HERE"', content)
    (tmp_path / "s.json").write_bytes(content)
    code, _, err = commands("import", str(tmp_path / "s.json"))
    assert (code, err.count("\n")) == (1, 1), err
    assert said in err


# acceptance: 179 (looking)
@pytest.mark.parametrize(
    "words",
    [
        ("sessions",), ("show", "s"), ("doctor", "s"), ("export", "s"), ("timers",), ("workflow", "list"), ("tail", "s", "--no-follow"),
        ("fork", "s"), ("inspect",),
    ],
)  # fmt: skip
def test_whoever_looks_under_a_wrong_prefix_is_told_and_makes_no_tables(commands: Any, session: str, words: tuple[str, ...]) -> None:
    before = tables(commands.dsn)
    code, out, err = commands(*words, "--prefix", "other_")
    assert (code, out) == (1, "")
    assert "no schema with prefix 'other_'" in err
    assert "power-loop schema apply" in err
    assert tables(commands.dsn) == before


@pytest.mark.parametrize("command", [
    *[("schema", verb) for verb in ("show", "check", "apply")], ("sessions",), ("run", "hi"), ("worker",), ("inspect",),
])  # fmt: skip
@pytest.mark.parametrize(("dsn", "prefix", "said"), [
    ("mysql://u@h", "pl_", "--dsn: the DSN names no database"),
    ("postgresql://h/d?connect_timeout=x", "pl_", "--dsn: postgresql option connect_timeout: 'x' is no number"),
    ("odd://x", "pl_", "--dsn: no engine for the scheme 'odd'"),
    ("app.db", "no good", "--prefix: table prefix 'no good'"),
])  # fmt: skip
def test_the_option_that_cannot_be_meant_is_named(commands: Any, command: tuple[str, ...], dsn: str, prefix: str, said: str) -> None:
    commands.dsn = dsn
    code, out, err = commands(*command, "--prefix", prefix)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"power-loop: {said}")
    assert list(commands.folder.iterdir()) == []


def test_json_that_is_nested_beyond_measure_is_no_archive(commands: Any) -> None:
    (commands.folder / "deep.json").write_text("[" * 100_000)
    code, out, err = commands("import", "deep.json")
    assert (code, out) == (1, "")
    assert "deep.json" in err
    assert err.count("\n") == 1


def test_no_character_of_an_error_moves_the_terminal(commands: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(ImportError("no \x1b[2J\u202e\x9b module\nsecond line")) == 1
    assert capsys.readouterr().err == "power-loop: no ·[2J·· module\n"


@pytest.mark.parametrize("words", [("run", "\x9b31m \u202e \x7f ü 漢 \U0001f600"), ("run", "a\udcff")])
def test_json_is_exact_and_harmless_on_a_terminal(commands: Any, words: tuple[str, ...]) -> None:
    code, out, _ = commands(*words)
    assert code == 0
    assert json.loads(out)["final_text"] == f"echo: {words[1]}"
    assert not set("\x9b\u202e\x7f\udcff") & set(out)
    assert ("ü 漢 \U0001f600" in out) == ("ü" in words[1])


def test_json_loses_no_character_where_the_output_is_not_utf_8(commands: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["run", "漢", "--dsn", commands.dsn]) == 0
    sys.stdout.flush()
    assert json.loads(raw.getvalue())["final_text"] == "echo: 漢"


def called(folder: Path, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "power_loop", *words]
    return subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **how)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", [("sessions",), ("show", "s"), ("export", "s"), ("tail", "s", "--no-follow"), ("completion", "bash")])
def test_a_full_disk_is_one_line(commands: Any, session: str, words: tuple[str, ...]) -> None:
    where = () if words[0] == "completion" else ("--dsn", commands.dsn)
    with open("/dev/full", "w") as full:
        done = called(commands.folder, *words, *where, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("power-loop: ")
    assert done.stderr.count("\n") == 1


def test_a_process_without_any_stream_does_its_work(commands: Any, session: str) -> None:
    for command in (f"sessions --dsn {commands.dsn}", f"show s --dsn {commands.dsn}", f"chat --dsn {commands.dsn}"):
        script = f"exec {sys.executable} -m power_loop {command} <&- >&- 2>&-"
        assert subprocess.run(["sh", "-c", script], cwd=commands.folder, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("how", ["stdin is closed", "a second one"])
def test_ctrl_c_ends_an_mcp_server_without_a_traceback(commands: Any, how: str) -> None:
    pytest.importorskip("mcp")
    command = [sys.executable, "-m", "power_loop", "mcp-serve", "--dsn", commands.dsn, "--model", "echo:"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")
        process.stdin.flush()
        assert "power-loop" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        if how == "stdin is closed":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) in (130, -signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
