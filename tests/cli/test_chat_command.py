"""`power-loop chat` as a user meets it: another process, lines on its input, an exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import warm

from power_loop import HumanInputRequired, LLMRequest, StatefulAgentLoop, open_store, tool
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, UserSaid
from power_loop.testing import FunctionLLM, ScriptedLLM, call
from power_loop.testing.hand import Hand

MODEL_VARIABLES = ("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any model, and with ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(MODEL_VARIABLES)}
    return {**kept, "PYTHONWARNINGS": warm.WARNINGS, "NO_COLOR": "1", **settings}


def power_loop(
    *arguments: str, lines: str = "", folder: Path | None = None, provider: str = "echo", **settings: str
) -> subprocess.CompletedProcess[str]:
    env = environment(**({"POWER_LOOP_PROVIDER": provider} if provider else {}), **settings)
    done = warm.run(["-m", "power_loop", *arguments], input=lines, cwd=folder, env=env)
    assert "Traceback" not in done.stderr
    return done


def session_in(output: str) -> str:
    found = re.search(r"^session (\S+) in", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


# --- a conversation --------------------------------------------------------------------------------------


# acceptance: 179 (chat)
def test_a_conversation_goes_on_in_the_next_process(tmp_path: Path) -> None:
    first = power_loop("chat", "--dsn", "app.db", lines="My name is Ada.\nAnd yours?\n", folder=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "> My name is Ada.\necho: My name is Ada.\n> And yours?\necho: And yours?\n" in first.stdout
    second = power_loop("chat", session_in(first.stdout), "--dsn", "app.db", lines="Who am I?\n", folder=tmp_path)
    assert second.returncode == 0
    assert second.stdout.index("> My name is Ada.") < second.stdout.index("echo: And yours?") < second.stdout.index("> Who am I?")
    assert "echo: Who am I?" in second.stdout


def test_only_the_last_messages_are_shown_again(tmp_path: Path) -> None:
    lines = "".join(f"word {n}\n" for n in range(5))
    first = power_loop("chat", "--dsn", "app.db", lines=lines, folder=tmp_path)
    again = power_loop("chat", session_in(first.stdout), "--dsn", "app.db", folder=tmp_path)
    assert "… 4 earlier messages\n> word 2\n" in again.stdout
    assert "word 1" not in again.stdout


def test_the_variable_names_the_database_where_the_option_does_not(tmp_path: Path) -> None:
    done = power_loop("chat", folder=tmp_path, POWER_LOOP_DSN="mine.db")
    assert "sqlite:///mine.db" in done.stdout
    assert (tmp_path / "mine.db").exists()


def test_quit_leaves_and_help_and_empty_lines_reach_no_model(tmp_path: Path) -> None:
    done = power_loop("chat", "--dsn", "app.db", lines="\n/help\n/quit\nnever said\n", folder=tmp_path)
    assert done.returncode == 0
    assert "echo:" not in done.stdout
    assert "never said" not in done.stdout


async def test_a_new_session_keeps_its_system_prompt_and_an_old_one_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "terse.md").write_text("You are terse.", encoding="utf-8")
    (tmp_path / "loud.md").write_text("You are loud.", encoding="utf-8")
    first = await asyncio.to_thread(power_loop, "chat", "--dsn", "app.db", "--system", "terse.md", folder=tmp_path)
    session = session_in(first.stdout)
    again = ("chat", session, "--dsn", "app.db", "--system", "loud.md")
    assert (await asyncio.to_thread(power_loop, *again, lines="hi\n", folder=tmp_path)).returncode == 0
    async with StatefulAgentLoop(llm="echo:", dsn=str(tmp_path / "app.db")) as loop:
        assert await loop.resolve_system_prompt(session_id=session) == "You are terse."


def test_without_a_model_it_says_that_it_is_offline_and_how_to_configure_one(tmp_path: Path) -> None:
    done = power_loop("chat", "--dsn", "app.db", lines="hi\n", folder=tmp_path, provider="")
    assert done.returncode == 0
    assert "offline" in done.stdout
    assert "POWER_LOOP_BASE_URL, POWER_LOOP_API_KEY and POWER_LOOP_MODEL" in done.stdout
    assert "echo: hi" in done.stdout


def test_what_is_said_cannot_command_the_terminal(tmp_path: Path) -> None:
    done = power_loop("chat", "--dsn", "app.db", lines="red \x1b[31m and \x9b2J\n", folder=tmp_path)
    assert "echo: red ·[31m and ·2J" in done.stdout
    assert "\x1b" not in done.stdout


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("chat", "sess_nobody", "--dsn", "app.db"), 3, "no session 'sess_nobody'"),
        (("chat", "sess_nobody", "--dsn", "typo.db"), 3, "there is no database typo.db"),
        (("chat", "--dsn", "oracle://x"), 2, "no engine for the scheme 'oracle'"),
        (("chat", "--dsn", "app.db", "--prefix", "1;"), 2, "table prefix '1;'"),
        (("chat", "--system", "nowhere.md"), 2, "nowhere.md cannot be read"),
        (("chat", "--model", "gpt"), 2, "PROVIDER:MODEL"),
        (("chat", "--dsn", "letter.txt"), 1, "it is no SQLite database"),
    ],
)
def test_a_failure_is_one_clear_line_and_a_code(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader, this is no database.", encoding="utf-8")
    power_loop("chat", "--dsn", "app.db", folder=tmp_path)
    done = power_loop(*arguments, folder=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith("power-loop: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "typo.db").exists()


def test_half_a_configuration_is_an_error_and_no_echo(tmp_path: Path) -> None:
    done = power_loop("chat", lines="hi\n", folder=tmp_path, provider="", POWER_LOOP_MODEL="m")
    assert done.returncode == 2
    assert "POWER_LOOP_BASE_URL" in done.stderr


def test_a_model_that_fails_ends_the_send_and_not_the_chat(tmp_path: Path) -> None:
    nobody = {"POWER_LOOP_BASE_URL": "http://127.0.0.1:9/v1", "POWER_LOOP_API_KEY": "k", "POWER_LOOP_MODEL": "m"}
    lines = "hi\n/quit\n"
    done = power_loop("chat", "--dsn", "app.db", lines=lines, folder=tmp_path, provider="", POWER_LOOP_MAX_RETRIES="0", **nobody)
    assert done.returncode == 1
    assert done.stderr.startswith("power-loop: openai")
    again = power_loop("chat", session_in(done.stdout), "--dsn", "app.db", lines="/resume\n", folder=tmp_path)
    assert "> hi\n(this message has no answer; /resume asks for one)\n> /resume\necho: hi\n" in again.stdout


def test_the_command_explains_itself() -> None:
    done = power_loop("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 busy or pending" in done.stdout
    assert power_loop("--version").stdout.startswith("power-loop 4.")
    assert power_loop().returncode == 2
    assert power_loop("chta").returncode == 2


# --- calls without a result ------------------------------------------------------------------------------------


async def cut_off(dsn: Path, *, begun: bool) -> str:
    """A session whose send was cut off while a tool ran; ``begun`` says whether that left a call of unknown outcome."""
    runs = asyncio.Event()

    @tool(effects="once" if begun else "pure")
    async def transfer(euros: int) -> str:
        """Move money."""
        runs.set()
        await asyncio.Event().wait()
        return f"{euros} paid"

    async with StatefulAgentLoop(llm=ScriptedLLM([call("transfer", euros=5)]), dsn=str(dsn), tools=[transfer]) as loop:
        session = await loop.new_session()
        send = asyncio.create_task(loop.send("Pay five euros.", session))
        await runs.wait()
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
    return session


async def test_a_call_of_unknown_outcome_is_explained_and_resumed_without_repeating_it(tmp_path: Path) -> None:
    session = await cut_off(tmp_path / "app.db", begun=True)
    done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines="what?\nr\nthanks\n", folder=tmp_path)
    assert done.returncode == 0
    assert '-> transfer {"euros": 5}\n     it began: it may or may not have taken effect, and is not repeated' in done.stdout
    assert "[r]esume, [a]bort or [q]uit? r" in done.stdout
    assert "<- [unknown] Outcome unknown. transfer: " in done.stdout
    assert "echo: thanks" in done.stdout


async def test_a_call_that_may_run_again_needs_the_program_that_has_the_tool(tmp_path: Path) -> None:
    session = await cut_off(tmp_path / "app.db", begun=False)
    done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines="a\nthanks\n", folder=tmp_path)
    assert done.returncode == 0
    assert "This chat has no tools to run them with" in done.stdout
    assert "(1 calls were answered as aborted)" in done.stdout
    assert "echo: thanks" in done.stdout


async def test_leaving_calls_without_a_result_is_exit_code_4(tmp_path: Path) -> None:
    session = await cut_off(tmp_path / "app.db", begun=True)
    for lines in ("", "q\n"):
        done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines=lines, folder=tmp_path)
        assert done.returncode == 4
    async with StatefulAgentLoop(llm="echo:", dsn=str(tmp_path / "app.db")) as loop:
        assert await loop.get_pending(session) is not None


async def test_a_question_that_a_tool_asked_is_answered_in_place(tmp_path: Path) -> None:
    @tool
    def book(city: str) -> str:
        """Book a room."""
        raise HumanInputRequired(f"How many nights in {city}?", options=[{"label": "one"}, {"label": "two"}])

    async with StatefulAgentLoop(llm=ScriptedLLM([call("book", city="Rome")]), dsn=str(tmp_path / "app.db"), tools=[book]) as loop:
        session = await loop.new_session()
        assert (await loop.send("Book a room.", session)).status == "waiting_for_input"
    done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines="two\n/quit\n", folder=tmp_path)
    assert done.returncode == 0
    assert "book asks: How many nights in Rome?\n  - one\n  - two\nanswer> two\n" in done.stdout
    assert "  <- two\n" in done.stdout


@pytest.mark.parametrize(
    ("options", "shown", "answered"),
    [
        (["yes", "no"], "  - yes\n  - no\n", {"yes": "yes", "maybe": "maybe"}),
        (
            [{"id": "p", "label": "Production", "description": "final"}],
            "  - Production (p): final\n",
            {"Production": "p", "p": "p"},
        ),
        ([1, {"id": "2"}, {"of": [3]}], '  - 1\n  - 2\n  - {"of": [3]}\n', {"1": "1", "2": "2", '{"of": [3]}': '{"of":[3]}'}),
    ],
)
async def test_what_there_is_to_choose_from_is_shown_and_chosen_by_name(
    tmp_path: Path, options: list[Any], shown: str, answered: dict[str, str]
) -> None:
    @tool
    def choose() -> str:
        """Let somebody choose."""
        raise HumanInputRequired("Which one?", kind="choice", options=options)

    for typed, result in answered.items():
        async with StatefulAgentLoop(llm=ScriptedLLM([call("choose")]), dsn=str(tmp_path / "app.db"), tools=[choose]) as loop:
            session = await loop.new_session()
            await loop.send("go", session)
        done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines=f"{typed}\n/quit\n", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"choose asks: Which one?\n{shown}answer> {typed}\n" in done.stdout
        assert f"  <- {result}\n" in done.stdout


async def test_a_session_that_another_process_drives_is_busy(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def slow(_: LLMRequest) -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    async with StatefulAgentLoop(llm=FunctionLLM(slow), dsn=str(tmp_path / "app.db")) as loop:
        session = await loop.new_session()
        send = asyncio.create_task(loop.send("Think.", session))
        await asked.wait()
        done = await asyncio.to_thread(power_loop, "chat", session, "--dsn", "app.db", lines="hello?\n", folder=tmp_path)
        await loop.cancel(session)
        assert (await send).status == "cancelled"
    assert done.returncode == 4
    assert "is held by" in done.stderr


# --- tools, and programs that listen -------------------------------------------------------------------------


# acceptance: 179 (chat with tools)
def test_built_in_tools_are_offered_in_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    first = power_loop("chat", "--tools", "explore", "--workspace", "work", "--dsn", "app.db", lines="hi\n", folder=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    for wrong in (["--tools", "core"], ["--workspace", "work"], ["--tools", "core", "--workspace", "gone"]):
        assert power_loop("chat", *wrong, "--dsn", "app.db", folder=tmp_path).returncode == 2


def test_a_call_that_was_cut_off_goes_on_where_the_chat_has_its_tool(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("green")
    asked = ModelReplied("", (ToolCall("c1", "read_file", '{"path": "note.txt"}'),))

    async def cut_off() -> None:
        store = await open_store(str(tmp_path / "app.db"))
        await store.create_session(session_id="s")
        hand = await Hand.of(store, "s", "a")
        await hand.take(UserSaid("What colour?"), asked)
        await hand.release()
        await store.close()

    asyncio.run(cut_off())
    words = ("chat", "s", "--tools", "explore", "--workspace", ".", "--dsn", "app.db")
    done = power_loop(*words, lines="r\n", folder=tmp_path)
    assert done.returncode == 0
    assert "green" in done.stdout


# acceptance: 179 (chat --json)
def test_for_programs_a_chat_is_one_event_a_line(tmp_path: Path) -> None:
    done = power_loop("chat", "--json", "--dsn", "app.db", lines="hi\nagain\n", folder=tmp_path)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    results = [event["payload"] for event in told if event.get("type") == "result"]
    assert [result["final_text"] for result in results] == ["echo: hi", "echo: again"]
    assert {result["session_id"] for result in results} == {told[0]["session_id"]}
