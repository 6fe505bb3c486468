"""The tool bash: one shell for each session, real exit codes, nothing that waits for input, nothing that lives on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shells import LIMIT_S, Tools, descriptors, lives, pid_in, until
from times import time_passes

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.tool import ToolRun
from power_loop.tools.shell.backend import LocalShellBackend
from power_loop.tools.shell.session import Shell
from power_loop.tools.shell.table import SHELLS, close_all_bash_sessions, close_loop_shells, close_session_shells


async def timed(work: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    return await work, time.monotonic() - begun


# --- what a command gets and gives --------------------------------------------------------------------


async def test_the_first_line_is_the_exit_code(tools: Tools) -> None:
    assert await tools.bash("echo hi") == "exit_code=0\nhi"
    assert await tools.bash("echo out; echo err >&2; false") == "exit_code=1\nout\nerr"
    assert await tools.bash("true") == "exit_code=0"
    assert (await tools.bash("no_such_program_anywhere")).startswith("exit_code=127\n")


async def test_a_command_that_fails_is_a_call_that_worked(tools: Tools) -> None:
    result = await tools.call("bash", command="exit 7")
    assert result.ok
    assert result.data["exit_code"] == 7


async def test_variables_functions_and_directory_stay(tools: Tools, workspace: Path) -> None:
    await tools.bash('X=5; f() { echo "f $X"; }; mkdir sub; cd sub; export Y=6')
    assert await tools.bash("f; pwd; sh -c 'echo $Y'") == f"exit_code=0\nf 5\n{workspace}/sub\n6"


# acceptance: 176 (sessions)
async def test_what_one_session_sets_is_invisible_in_another(tools: Tools, workspace: Path) -> None:
    await tools.bash("SECRET=1; mkdir sub; cd sub; f() { :; }", session="one")
    assert (
        await tools.bash("echo \"[$SECRET]\"; pwd; type f 2>&1 | grep -c 'not found'", session="two") == f"exit_code=0\n[]\n{workspace}\n1"
    )
    assert await tools.bash('echo "[$SECRET]"', session="one") == "exit_code=0\n[1]"


async def test_sessions_of_one_name_in_two_registries_have_shells_of_their_own(make_tools: Callable[..., Tools]) -> None:
    one, two = make_tools(), make_tools()
    await one.bash("X=1")
    assert await two.bash('echo "[$X]"') == "exit_code=0\n[]"


# acceptance: 176 (no false timeouts)
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("cat", "exit_code=0"),
        ('read x; echo "$? [$x]"', "exit_code=0\n1 []"),
        ("python3 -c 'input()' 2>&1 | tail -n 1", "exit_code=0\nEOFError: EOF when reading a line"),
        ("cat <&0; bash; cat -", "exit_code=0"),
        ("echo a; cat <<EOF\nb\nEOF\necho c", "exit_code=0\na\nb\nc"),
        ("cat <<-EOF\n\tb\n\tEOF", "exit_code=0\nb"),
        ("sleep 1000 & echo on", "exit_code=0\non"),
        ("while read l; do echo $l; done < <(printf 'a\\nb\\n')", "exit_code=0\na\nb"),
        ("printf 'no end of line'", "exit_code=0\nno end of line"),
        ("exec 2>/dev/null; echo x >&2; exec 1>/dev/null; echo y", "exit_code=0"),
        ("exec 0<&- 1>&- 2>&-; true", "exit_code=0"),
        ("trap 'echo $BASH_COMMAND' DEBUG; true; trap - DEBUG", "exit_code=0\ntrue\ntrap - DEBUG"),
        ("(exit 9)", "exit_code=9"),
        ("kill -9 $BASHPID", None),
    ],
)
async def test_a_command_ends_when_it_ends(tools: Tools, command: str, answer: str | None) -> None:
    said, took = await timed(tools.bash(command))
    assert took < LIMIT_S
    assert answer is None or said == answer
    assert await tools.bash("echo next") == "exit_code=0\nnext"


# acceptance: 176 (open quote, here-document)
@pytest.mark.parametrize("command", ["echo 'abc", 'echo "abc', "cat <<EOF\nabc", "echo $(ls", "if true; then", "echo `ls", "f() {", "a=("])
async def test_what_is_not_finished_is_a_syntax_error_at_once(tools: Tools, command: str) -> None:
    await tools.bash("X=kept")
    said, took = await timed(tools.bash(command))
    assert took < LIMIT_S
    assert said.startswith(("exit_code=2\n", "exit_code=1\n")), said
    assert "syntax error" in said or "unexpected EOF" in said
    assert await tools.bash("echo $X") == "exit_code=0\nkept"


# acceptance: 176 (exit)
async def test_exit_tells_its_code_at_once_and_the_next_command_gets_a_fresh_shell(tools: Tools) -> None:
    await tools.bash("X=1")
    said, took = await timed(tools.bash("echo bye; exit 3"))
    assert took < LIMIT_S
    assert said.startswith("exit_code=3\nbye\n[The shell has ended")
    assert await tools.bash('echo "[$X]"') == "exit_code=0\n[]"


async def test_a_signal_tells_its_code_as_shells_do(tools: Tools) -> None:
    assert (await tools.bash("kill -TERM $$")).startswith("exit_code=143\n")
    assert (await tools.bash("kill -9 $$")).startswith("exit_code=137\n")
    assert await tools.bash("sh -c 'kill -9 $$'") != ""


async def test_a_shell_that_dies_between_commands_is_replaced(tools: Tools) -> None:
    pid = int((await tools.bash("echo $$")).split("\n")[1])
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid))
    assert await tools.bash("echo again") == "exit_code=0\nagain"


async def test_options_that_end_a_shell_hold_for_one_command(tools: Tools) -> None:
    assert await tools.bash("set -euo pipefail; X=1; echo $X") == "exit_code=0\n1"
    assert await tools.bash('false; echo "still $X $UNSET"') == "exit_code=0\nstill 1 "
    assert (await tools.bash("set -e; false; echo never")).startswith("exit_code=1\n[The shell has ended")


async def test_restart_gives_a_fresh_shell(tools: Tools) -> None:
    pid = int((await tools.bash("X=1; echo $$")).split("\n")[1])
    assert "restarted" in await tools.bash(restart=True)
    assert not lives(pid)
    await tools.bash("X=2")
    assert await tools.bash('echo "[$X]"', restart=True) == "exit_code=0\n[]"


async def test_nothing_asked_is_a_failed_call(tools: Tools) -> None:
    for result in (await tools.call("bash"), await tools.call("bash", command=" "), await tools.call("bash", command="echo \0")):
        assert not result.ok
    assert len(SHELLS) == 0


# --- output -------------------------------------------------------------------------------------------


async def test_long_output_is_thirty_first_and_a_hundred_and_seventy_last_lines(tools: Tools) -> None:
    lines = (await tools.bash("seq 1 1000")).split("\n")
    assert lines == ["exit_code=0", *map(str, range(1, 31)), "[... 800 lines left out ...]", *map(str, range(831, 1001))]
    assert (await tools.bash("seq 1 200")).split("\n") == ["exit_code=0", *map(str, range(1, 201))]


async def test_a_hundred_megabytes_are_held_in_less_than_one(tools: Tools) -> None:
    result = await tools.call("bash", command="yes 0123456789 | head -c 100000000; echo; echo end")
    assert result.data["output_bytes"] == 100_000_005
    assert "lines, 99" in result.content
    assert result.content.endswith("\nend")
    assert len(result.content) < 5000


async def test_one_endless_line_is_cut_in_its_middle(tools: Tools) -> None:
    result = await tools.call("bash", command="head -c 3000000 /dev/zero | tr '\\0' x; echo end")
    assert "bytes left out" in result.content
    assert result.content.endswith("xend")
    assert len(result.content) < 700_000


async def test_bytes_that_are_no_text_are_shown_as_such(tools: Tools) -> None:
    assert await tools.bash(r"printf '\377\376a\000b\303\244'") == "exit_code=0\n��a\0bä"


async def test_what_a_background_process_prints_later_comes_with_the_next_command(tools: Tools, workspace: Path) -> None:
    await tools.bash("(while [ ! -e go ]; do sleep 0.01; done; echo late; touch done) & true")
    (workspace / "go").touch()
    await until((workspace / "done").exists)
    assert await tools.bash("echo now") == "exit_code=0\nlate\nnow"


async def test_no_command_can_print_the_end_mark(tools: Tools) -> None:
    """It tries with all that it can see: its own text, its parent's memory of commands, its descriptors."""
    mark = "printf '\\036%s 0\\036'"
    tries = f"{mark} 0123456789abcdef >&2; for fd in /proc/self/fd/*; do {mark} x > $fd; done"
    assert (await tools.bash(f"{{ {tries}; }} 2>/dev/null >/dev/null; echo real; (exit 5)")).startswith("exit_code=5\n")
    await tools.bash("set -xv", restart=True)
    said = await tools.bash("true; (exit 6)")
    assert said.startswith("exit_code=6\n")
    assert "\x1e" not in said


# --- time and cancel ----------------------------------------------------------------------------------

# Deaf to TERM, and a daemon: it left the group, the session and its parents.
STUBBORN = """
trap '' TERM
(setsid sh -c 'trap "" TERM; echo $$ > daemon; while :; do sleep 0.05; done' &)
sh -c 'trap "" TERM; echo $$ > child; while :; do sleep 0.05; done' &
set -m; sh -c 'echo $$ > grouped; exec sleep 1000' & set +m
echo printed
touch up
while :; do sleep 0.05; done
"""


# acceptance: 176 (no descendant lives), 128 (subprocess trees)
async def test_after_a_timeout_no_descendant_lives(tools: Tools, workspace: Path) -> None:
    run = ToolRun(session_id="s", config=impatient())
    calling = asyncio.create_task(tools.call("bash", run, command=STUBBORN, timeout=600))
    await until(lambda: all(pid_in(workspace / name) for name in ("daemon", "child", "grouped")))
    await until((workspace / "up").exists)
    time_passes(600)
    result = await calling
    assert not result.ok
    assert result.content.startswith("exit_code=124\nprinted\n")
    assert "[timed out after 600 s" in result.content
    pids = [pid_in(workspace / name) for name in ("daemon", "child", "grouped")]
    assert all(pids)
    assert not [pid for pid in pids if lives(pid)]
    assert await tools.bash("echo next") == "exit_code=0\nnext"


async def test_a_process_that_heeds_term_gets_to_tidy_up(tools: Tools, workspace: Path) -> None:
    command = "sh -c 'trap \"echo tidied; exit\" TERM; echo up; touch up; while :; do sleep 0.01; done'"
    calling = asyncio.create_task(tools.bash(command, timeout=600))
    await until((workspace / "up").exists)
    time_passes(600)
    said = await calling
    assert said.startswith("exit_code=124\nup\n")
    assert "tidied" in said


async def test_a_cancel_ends_the_group_and_keeps_what_was_printed(tools: Tools, workspace: Path) -> None:
    token = CancellationToken()
    run = ToolRun(session_id="s", cancel=token, config=impatient())
    calling = asyncio.create_task(tools.call("bash", run, command=STUBBORN))
    await until(lambda: all(pid_in(workspace / name) for name in ("daemon", "child", "grouped")))
    await until((workspace / "up").exists)
    token.cancel("the user left")
    result = await calling
    assert not result.ok
    assert result.content.startswith("exit_code=130\nprinted\n")
    assert "[cancelled" in result.content
    assert not [name for name in ("daemon", "child", "grouped") if lives(pid_in(workspace / name))]


async def test_a_cancelled_task_ends_the_group_before_it_ends(tools: Tools, workspace: Path) -> None:
    calling = asyncio.create_task(tools.bash("echo $$ > pid; sleep 1000"))
    await until(lambda: bool(pid_in(workspace / "pid")))
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert not lives(pid_in(workspace / "pid"))
    assert len(SHELLS) == 0


async def test_a_token_that_must_be_asked_cancels_too(tools: Tools, workspace: Path) -> None:
    token = CancellationToken.from_any(lambda: bool(pid_in(workspace / "pid")))
    result = await tools.call("bash", ToolRun(session_id="s", cancel=token), command="echo $$ > pid; sleep 1000")
    assert result.data["ended"] == "cancelled"
    assert not lives(pid_in(workspace / "pid"))


async def test_a_cancel_that_came_before_runs_nothing_for_long(tools: Tools) -> None:
    token = CancellationToken()
    token.cancel()
    assert (await tools.bash("sleep 1000", run=ToolRun(session_id="s", cancel=token))).startswith("exit_code=130\n")


def impatient() -> Any:
    class Config:
        class running:
            cancel_grace_s = 0.2

    return Config


# --- environment --------------------------------------------------------------------------------------


# acceptance: 44
async def test_a_secret_of_the_parent_is_not_visible_unless_it_is_let_through(
    make_tools: Callable[..., Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LC_TEST", "y")
    ask = 'echo "[$SECRET_TOKEN][$LC_TEST][$TERM][$NO_COLOR]"'
    assert await make_tools().bash(ask) == "exit_code=0\n[][y][dumb][1]"
    assert await make_tools(LocalShellBackend(inherit_env=True)).bash(ask) == "exit_code=0\n[x][y][dumb][1]"
    assert await make_tools(LocalShellBackend(env=("SECRET_TOKEN",))).bash(ask) == "exit_code=0\n[x][y][dumb][1]"
    assert await make_tools(LocalShellBackend(env="SECRET_TOKEN")).bash(ask) == "exit_code=0\n[x][y][dumb][1]"
    assert await make_tools(LocalShellBackend(extra={"SECRET_TOKEN": "z", "TERM": "w"})).bash(ask) == "exit_code=0\n[z][y][w][1]"
    monkeypatch.setenv("POWER_LOOP_SHELL_ENV", "inherit")
    assert await make_tools().bash(ask) == "exit_code=0\n[x][y][dumb][1]"


async def test_only_names_of_the_allow_list_reach_a_command(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_X", "BASH_ENV", "PYTHONPATH", "POWER_LOOP_API_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "secret")
    names = {line.partition("=")[0] for line in (await tools.bash("env")).split("\n")[1:]}
    allowed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "NO_COLOR"}
    assert names <= allowed | {"PWD", "OLDPWD", "SHLVL", "_", "POWER_LOOP_SHELL_ID"} | {name for name in names if name.startswith("LC_")}


# --- backends -----------------------------------------------------------------------------------------


class Recorded:
    """A backend that starts what it is told to, and knows for which workspaces."""

    def __init__(self, argv: list[str]) -> None:
        self.argv, self.asked = argv, list[str]()

    def launch_argv(self, ws: str) -> list[str]:
        self.asked.append(ws)
        return self.argv

    def launch_cwd(self, ws: str) -> str | None:
        return None

    def launch_env(self, ws: str) -> dict[str, str]:
        return {"PATH": os.defpath, "FROM": "backend"}

    def session_key(self, ws: str) -> str:
        return f"recorded:{ws}"


# acceptance: 43 (foreground)
async def test_with_an_injected_backend_only_its_process_is_started(
    make_tools: Callable[..., Tools], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **more: (begun.append(argv), popen(argv, **more))[1])
    backend = Recorded(["/bin/bash", "--norc", "--noprofile", "-s", "mine"])
    assert await make_tools(backend).bash("echo $1 $FROM; pwd") == f"exit_code=0\nmine backend\n{os.getcwd()}"
    assert begun == [backend.argv]
    assert backend.asked == [str(workspace)]


@pytest.mark.parametrize("argv", [["/no/such/shell"], ["/bin/sh", "-c", "echo not today >&2; exit 4"], ["/bin/false"]])
async def test_a_shell_that_does_not_start_is_told_and_nothing_runs(make_tools: Callable[..., Tools], argv: list[str]) -> None:
    result = await make_tools(Recorded(argv)).call("bash", command="echo hi")
    assert not result.ok
    assert "could not be started" in result.content
    assert len(SHELLS) == 0


async def test_a_workspace_that_is_gone_is_told(tools: Tools, workspace: Path) -> None:
    os.rmdir(workspace)
    result = await tools.call("bash", command="echo hi")
    assert not result.ok
    assert "could not be started" in result.content


# --- many shells, many callers ------------------------------------------------------------------------


async def test_the_least_recently_used_shells_are_closed_beyond_the_number(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SHELLS, "_most", 3)
    pids = {name: int((await tools.bash("echo $$", session=name)).split("\n")[1]) for name in "abc"}
    await tools.bash("true", session="a")
    await tools.bash("true", session="d")
    assert [name for name in "abc" if not lives(pids[name])] == ["b"]
    assert len(SHELLS) == 3


async def test_shells_go_with_their_session_their_loop_or_all(tools: Tools, make_tools: Callable[..., Tools]) -> None:
    class Host:
        """Stands for a loop, and for a store."""

    mine, other, store = Host(), Host(), Host()
    await tools.bash("true", run=ToolRun(session_id="a", loop=mine, store=store))
    await tools.bash("true", run=ToolRun(session_id="b", loop=mine, store=store))
    await tools.bash("true", run=ToolRun(session_id="c", loop=other, store=store))
    assert await close_session_shells("a", store) == 1
    assert await close_session_shells("a", Host()) == 0
    assert await close_loop_shells(mine) == 1
    assert len(SHELLS) == 1
    assert close_all_bash_sessions() == 1
    assert len(SHELLS) == 0


async def test_calls_of_one_session_run_one_after_the_other(tools: Tools) -> None:
    said = await asyncio.gather(*(tools.bash(f"X={n}; sleep 0.0{n}; echo $X") for n in range(5)))
    assert said == [f"exit_code=0\n{n}" for n in range(5)]


async def test_a_caller_that_gives_up_its_turn_holds_up_nobody(tools: Tools, workspace: Path) -> None:
    first = asyncio.create_task(tools.bash("touch up; while [ ! -e go ]; do sleep 0.01; done; echo first"))
    await until((workspace / "up").exists)
    second, third = asyncio.create_task(tools.bash("echo second")), asyncio.create_task(tools.bash("echo third"))
    await asyncio.sleep(0)
    second.cancel()
    (workspace / "go").touch()
    assert (await first, await third) == ("exit_code=0\nfirst", "exit_code=0\nthird")


def test_a_session_goes_on_in_another_event_loop_and_another_thread(tools: Tools) -> None:
    assert asyncio.run(tools.bash("X=1; echo $X")) == "exit_code=0\n1"
    assert asyncio.run(tools.bash("echo $X")) == "exit_code=0\n1"
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(asyncio.run(tools.bash("echo $X"))))
    thread.start()
    thread.join()
    assert said == ["exit_code=0\n1"]


def test_callers_in_many_event_loops_share_a_shell_without_mixing(tools: Tools) -> None:
    said: dict[int, str] = {}

    def call(n: int) -> None:
        said[n] = asyncio.run(tools.bash(f"echo {n}; sleep 0.01; echo {n}"))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: f"exit_code=0\n{n}\n{n}" for n in range(6)}


FORKS = """
import asyncio, os, sys
sys.path[:0] = [{tests!r}]
from shells import Tools
from power_loop.tools.env import RuntimeEnv
tools = Tools(RuntimeEnv({workspace!r}, {workspace!r}))
print(asyncio.run(tools.bash("X=parent; echo $$ > pid; echo $X")), flush=True)
if os.fork() == 0:
    print(asyncio.run(tools.bash('echo "child [$X]"')), flush=True)
    sys.exit(0)
os.wait()
print(asyncio.run(tools.bash("echo $X")), flush=True)
"""


def test_a_forked_child_has_shells_of_its_own_and_leaves_its_parents(workspace: Path) -> None:
    program = FORKS.format(tests=str(Path(__file__).parent.parent / "support"), workspace=str(workspace))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["exit_code=0", "parent", "exit_code=0", "child []", "exit_code=0", "parent", ""]
    assert not lives(pid_in(workspace / "pid")), "a process that ends takes its shells along"


async def test_a_hundred_commands_leave_no_descriptor_behind(tools: Tools) -> None:
    await tools.bash("true")
    before = descriptors()
    for _ in range(100):
        await tools.bash("true")
    assert descriptors() == before


async def test_a_shell_is_used_up_once_it_ended(workspace: Path) -> None:
    shell = Shell.start(LocalShellBackend(), str(workspace), SHELLS.spawner)
    assert shell.usable
    await shell.close()
    await shell.close()
    assert not shell.usable
