"""The commands of an operator: what they print, what they leave alone, and their exit codes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from operating import look, mail

from power_loop import StatefulAgentLoop
from power_loop.cli import main
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, UserSaid
from power_loop.store.sql_store import open_store
from power_loop.testing import ScriptedLLM, call, check_invariants
from power_loop.testing.hand import Hand


class Shell:
    """One database in a folder, and commands on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.dsn = str(folder / "app.db")

    def __call__(self, *words: str, dsn: str | None = None) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)"""
        try:
            code = main([*words, "--dsn", dsn or self.dsn])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        code, out, err = self(*words, "--json")
        assert (code in (0, 4), err) == (True, "")
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.delenv("POWER_LOOP_DSN", raising=False)
    return Shell(tmp_path, capsys)


@pytest.fixture
def lived(shell: Shell) -> Shell:
    """Session ``s`` with two finished sends, session ``stuck`` with an open call, and an archived one."""

    async def live() -> None:
        script = [call("look", at="Rome"), "Rome is fine.", "You are welcome."]
        async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=shell.dsn, tools=[look, mail]) as loop:
            await loop.new_session(session_id="s", metadata={"user": "u1"})
            await loop.send("Is Rome fine?", "s")
            await loop.send("Thanks\x1b[31m!", "s")
        store = await open_store(shell.dsn)
        await store.create_session(session_id="stuck")
        hand = await Hand.of(store, "stuck", "a")
        await hand.take(UserSaid("hi"), ModelReplied("", (ToolCall("c1", "look", "{}"),)))
        await hand.release()
        await store.archive_session(await store.create_session(session_id="done"))
        await store.close()

    asyncio.run(live())
    return shell


def test_sessions_are_listed_for_people_and_for_programs(lived: Shell) -> None:
    code, out, _ = lived("sessions")
    assert (code, sorted(line.split()[0] for line in out.splitlines())) == (0, ["s", "stuck"])
    assert "2 sends" in out
    assert '{"user": "u1"}' in out
    assert {row["session_id"] for row in lived.json("sessions", "--all")} == {"s", "stuck", "done"}
    assert len(lived.json("sessions", "--all", "--limit", "1")) == 1


def test_a_session_is_shown_with_tools_usage_and_outcome(lived: Shell) -> None:
    code, out, _ = lived("show", "s")
    assert code == 0
    for words in ("Is Rome fine?", "look", "Rome is fine", "[send 1: completed", "[send 2: completed", "You are welcome."):
        assert words in out
    assert "\x1b" not in out, "what a user said cannot command the terminal"
    assert "Rome" not in lived("show", "s", "--send", "2")[1]
    shown = lived.json("show", "s")
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert shown["outcomes"] == {"1": "completed", "2": "completed"}
    records = lived.json("show", "s", "--records")
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert lived("show", "s", "--send", "9")[0] == 3


def test_an_archive_goes_out_and_comes_in(lived: Shell) -> None:
    file = lived.folder / "s.json"
    assert lived("export", "s", "-o", str(file))[0] == 0
    assert lived("export", "s", "-o", str(file))[0] == 1, "a file that is there is not replaced"
    assert json.loads(lived("export", "s")[1])["records"] == json.loads(file.read_text())["records"]
    code, out, _ = lived("import", str(file), dsn=str(lived.folder / "new" / "other.db"))
    assert code == 0
    other = lived("show", out.strip(), dsn=str(lived.folder / "new" / "other.db"))
    assert other[1] == lived("show", "s")[1]
    assert lived.json("import", str(file), "--keep-timers")["session_id"].startswith("sess_")


def test_what_is_no_archive_is_refused_and_leaves_nothing(lived: Shell) -> None:
    whole = lived("export", "s")[1]
    before = len(lived.json("sessions", "--all"))
    for text, words in ((whole[: len(whole) // 2], "is truncated"), ("[]", "expected an object"), ('{"format": 1}', "its format is 1")):
        (lived.folder / "bad.json").write_text(text)
        code, _, err = lived("import", str(lived.folder / "bad.json"))
        assert (code, words in err, err.count("\n")) == (1, True, 1), err
    assert lived("import", str(lived.folder / "none.json"))[0] == 2
    assert len(lived.json("sessions", "--all")) == before


def test_a_session_is_forked(lived: Shell) -> None:
    twin = lived.json("fork", "s", "--at", "1")["session_id"]
    assert "Thanks" not in lived("show", twin)[1]
    code, _, err = lived("fork", "s", "--at", "7")
    assert (code, "these have: 1, 2" in err) == (3, True)


def test_the_doctor_explains_and_repairs(lived: Shell) -> None:
    assert lived("doctor", "s") == (0, "s: idle, nothing is the matter\n", "")
    code, out, _ = lived("doctor", "stuck")
    assert (code, "stuck: pending" in out, "open_call: look({}) has no result; resume() runs it" in out) == (4, True, True)
    assert lived.json("doctor", "stuck")["findings"][0]["code"] == "open_call"
    assert lived("doctor", "stuck", "--repair")[0] == 0

    async def sound() -> list[str]:
        store = await open_store(lived.dsn)
        found = await check_invariants(store)
        await store.close()
        return found

    assert asyncio.run(sound()) == []


def test_the_schema_is_shown_checked_and_applied(shell: Shell) -> None:
    code, script, _ = shell("schema", "show", "--prefix", "my_")
    assert (code, "CREATE TABLE IF NOT EXISTS my_sessions" in script) == (0, True)
    assert not Path(shell.dsn).exists()
    code, told, _ = shell("schema", "check")
    assert (code, "CREATE TABLE" in told, Path(shell.dsn).exists()) == (1, True, False)
    assert shell.json("schema", "apply")["ok"]
    assert shell("schema", "check")[:2] == (0, "the schema is right: version 41\n")
    with sqlite3.connect(shell.folder / "by_hand.db") as by_hand:
        by_hand.executescript(script)
    by_hand.close()
    assert shell("schema", "check", "--prefix", "my_", dsn=str(shell.folder / "by_hand.db"))[0] == 0
    assert shell("schema", "check", "--json", dsn=str(shell.folder / "by_hand.db"))[0] == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "gone"), 3), (("export", "gone"), 3), (("fork", "gone"), 3), (("doctor", "gone"), 3), (("show",), 2),
        (("schema", "drop"), 2), (("sessions", "--prefix", "no good"), 2), (("schema", "show", "--prefix", "no good"), 2),
    ],
)  # fmt: skip
def test_exit_codes_tell_what_went_wrong(lived: Shell, words: tuple[str, ...], code: int) -> None:
    assert lived(*words)[0] == code


def test_no_command_that_only_looks_makes_a_database(shell: Shell) -> None:
    for words in (("sessions",), ("show", "s"), ("export", "s"), ("fork", "s"), ("doctor", "s")):
        code, _, err = shell(*words)
        assert (code, "there is no database" in err) == (3, True)
    assert list(shell.folder.iterdir()) == []
    assert shell("sessions", dsn="odd://x")[0] == 2
