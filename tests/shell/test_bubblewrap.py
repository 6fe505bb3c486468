"""The bubblewrap backend holds: every test is an attempt to get out, or to see out, by a command that really runs inside."""

# ruff: noqa: ASYNC220, ASYNC240  # small files, short processes, and nobody else in the event loop

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
from shells import Tools, lives, until

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.tool import ToolRun
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.shell.bubblewrap import BubblewrapShellBackend, found_bwrap, workspace_of
from power_loop.tools.shell.table import close_all_bash_sessions

# The words at its beginning have it shown in red at the end of a run.
MISSING = f"{engines.MISSING}: bubblewrap is not installed (apt install bubblewrap), so its sandbox was not tested"
pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason=MISSING)


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Not below the system's temporary folder, which the sandbox hides: so what is hidden beside it is hidden by the sandbox's rules."""
    folder = Path(__file__).parent / f".sandbox-{os.getpid()}"
    (folder / "workspace").mkdir(parents=True)
    (folder / "beside").write_text("beside the workspace\n", encoding="utf-8")
    yield folder / "workspace"
    shutil.rmtree(folder)


@pytest.fixture
def caged(make_tools: Callable[..., Tools]) -> Tools:
    return make_tools(BubblewrapShellBackend(), check="off")


async def says(tools: Tools, command: str) -> list[str]:
    """The lines of the result: its code first."""
    return (await tools.bash(command)).split("\n")


async def fails(tools: Tools, command: str) -> bool:
    return (await says(tools, command))[0] != "exit_code=0"


# --- what works ---------------------------------------------------------------------------------------


async def test_the_workspace_is_writable_and_what_is_written_is_ours(caged: Tools, workspace: Path) -> None:
    assert await says(caged, "pwd; echo hi > file; cat file; id -u") == ["exit_code=0", str(workspace), "hi", "65534"]
    assert (workspace / "file").read_text() == "hi\n"
    assert (workspace / "file").stat().st_uid == os.getuid()
    assert await says(caged, "cd /; X=1") == ["exit_code=0"]
    assert await says(caged, "pwd; echo $X; echo t > /tmp/t; cat /tmp/t; echo x > /dev/null; [ -t 0 ] || echo no terminal") == [
        "exit_code=0", "/", "1", "t", "no terminal",
    ]  # fmt: skip


async def test_programs_of_the_system_run(caged: Tools) -> None:
    assert await says(caged, "ls / | tr '\\n' ' '; seq 3 | sort -r | head -n 1; hostname; sh -c 'exit 3'") == [
        "exit_code=3", (await says(caged, "ls / | tr '\\n' ' '"))[1] + "3", "sandbox",
    ]  # fmt: skip


# --- reading outside ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/passwd", "/etc/ssh", "/root", "/home", "/var", "/boot", "/sys", "/proc/1/root/etc/shadow", "/run/docker.sock"],
)
async def test_what_lies_outside_cannot_be_read(caged: Tools, path: str) -> None:
    said = await says(caged, f"cat {path}; ls -A {path}")
    assert said[0] != "exit_code=0" or said[1:] == [f"cat: {path}: Is a directory"], said


async def test_what_lies_beside_the_workspace_cannot_be_read(caged: Tools, workspace: Path) -> None:
    (workspace / "link").symlink_to("../beside")
    (workspace / "absolute").symlink_to(workspace.parent / "beside")
    for path in ("../beside", str(workspace.parent / "beside"), "link", "absolute", f"/proc/self/root{workspace.parent}/beside"):
        assert await fails(caged, f"cat {path}"), path
    assert await says(caged, f"ls -A {workspace.parent}") == ["exit_code=0", "workspace"]


async def test_no_secret_of_the_host_is_in_the_environment(
    caged: Tools, make_tools: Callable[..., Tools], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    monkeypatch.setenv("POWER_LOOP_SHELL_ENV", "inherit")
    assert not [line for line in await says(caged, "env; cat /proc/*/environ | tr '\\0' '\\n'") if "SECRET" in line or "hidden" in line]
    let_through = make_tools(BubblewrapShellBackend(env="SECRET_TOKEN"), check="off")
    assert await says(let_through, "echo $SECRET_TOKEN") == ["exit_code=0", "hidden"]


async def test_no_process_of_the_host_can_be_seen_or_ended(caged: Tools) -> None:
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        seen = await says(caged, "for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline; echo; done")
        assert not [line for line in seen if "sleep" in line or "python" in line]
        for pid in (bystander.pid, os.getpid(), os.getppid()):
            assert pid < 10 or await fails(caged, f"kill -0 {pid}"), "low numbers are processes of the sandbox itself"
        if bystander.pid > 10:
            assert await fails(caged, f"kill -9 {bystander.pid}")
        assert lives(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


# --- writing outside ----------------------------------------------------------------------------------


def is_private(workspace: Path) -> bool:
    """What lies beside the workspace is, inside, in the sandbox's own /tmp: writable, and seen by nobody else."""
    return workspace.is_relative_to("/tmp")


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/usr/bin", "/etc", "/bin", "/lib", "/dev", "/proc/sys/kernel", "/opt", "/home", "..", "/run/user"]
)
async def test_what_lies_outside_cannot_be_written(caged: Tools, workspace: Path, path: str) -> None:
    said = await says(caged, f"mkdir -p {path} && touch {path}/written && echo written")
    # Folders that exist inside only are written nowhere; they are read-only all the same.
    assert said[0] != "exit_code=0" or path in ("/dev", "/run/user") or (path == ".." and is_private(workspace)), said
    assert not (workspace / path / "written").exists()
    assert not Path(path if path != ".." else "/", "written").exists()


async def test_a_file_of_the_host_stays_as_it_is_whatever_is_tried(caged: Tools, workspace: Path) -> None:
    """On a file of the test; files of the system are only tried in ways that would leave them as they are."""
    (workspace / "link").symlink_to(workspace.parent / "beside")
    for command in (
        "echo x > ../beside", "echo x >> link", f"rm -rf {workspace.parent}/beside", "mv ../beside .", "ln ../beside hard",
        "dd if=/dev/zero of=../beside count=1", ": >> /usr/bin/env", "chmod --reference=/usr/bin/env /usr/bin/env",
        "touch -c -r /usr/bin/env /usr/bin/env", "rmdir /usr",
    ):  # fmt: skip
        beside = "beside" in command or "link" in command
        assert command.startswith("rm -rf") or await fails(caged, command) or (beside and is_private(workspace)), command
        await caged.bash(command)
    assert (workspace.parent / "beside").read_text() == "beside the workspace\n"


async def test_read_only_folders_can_be_read_and_not_written(make_tools: Callable[..., Tools], workspace: Path) -> None:
    (workspace / "kept").mkdir()
    (workspace / "kept" / "file").write_text("kept\n")
    beside = workspace.parent / "beside"
    tools = make_tools(BubblewrapShellBackend(read_only=(beside, workspace / "kept")), check="off")
    assert await says(tools, f"cat {beside} kept/file") == ["exit_code=0", "beside the workspace", "kept"]
    for target in (beside, "kept/file", "kept/new"):
        assert await fails(tools, f"echo x > {target}")
    assert await fails(tools, "rm -rf kept")
    assert (workspace / "kept" / "file").read_text() == "kept\n"


# --- the network --------------------------------------------------------------------------------------

CONNECT = 'python3 -c \'import socket; socket.create_connection(("127.0.0.1", {port}), 2); print("connected")\''
ABSTRACT = 'python3 -c \'import socket; s = socket.socket(socket.AF_UNIX); s.connect("\\0{name}"); print("connected")\''


def has_python() -> bool:
    return os.path.exists("/usr/bin/python3")


@pytest.mark.skipif(not has_python(), reason="no /usr/bin/python3 to open sockets with")
async def test_no_socket_reaches_the_host_unless_the_network_is_shared(
    caged: Tools, make_tools: Callable[..., Tools], workspace: Path
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(listening.getsockname())
        datagrams.setblocking(False)
        port, name = listening.getsockname()[1], f"power-loop-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        for command in (
            CONNECT.format(port=port), ABSTRACT.format(name=name), f"exec 3<>/dev/tcp/127.0.0.1/{port}",
        ):  # fmt: skip
            said = await says(caged, f"/usr/bin/env PATH=/usr/bin {command}" if command.startswith("python3") else command)
            assert said[0] != "exit_code=0", said
            assert "connected" not in said
        await caged.bash(f"echo x > /dev/udp/127.0.0.1/{port}")
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)
        shared = make_tools(BubblewrapShellBackend(network=True), check="off")
        assert await says(shared, CONNECT.format(port=port)) == ["exit_code=0", "connected"]


async def test_there_is_only_a_loopback_of_its_own(caged: Tools) -> None:
    assert await says(caged, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /proc/net/tcp | wc -l") == ["exit_code=0", "lo", "1"]


# --- the kernel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none .", "mount --bind . .", "unshare -U true", "unshare -Ur mount -t proc p /proc", "nsenter -t 1 -m ls /",
        "chroot / true", "mknod disk b 7 99", "hostname $(hostname)", "su -c true", "sudo -n true", "insmod x.ko",
        "bwrap --ro-bind / / true", ": >> /proc/sys/kernel/hostname", ": >> /proc/sys/net/ipv4/ip_forward",
        ": >> /proc/sys/kernel/core_pattern", ": >> /proc/sysrq-trigger", ": >> /proc/sys/vm/drop_caches", ": >> /proc/self/oom_score_adj",
    ],
)  # fmt: skip
async def test_the_kernel_grants_nothing(caged: Tools, command: str) -> None:
    assert await fails(caged, command)


async def test_nothing_of_the_kernels_own_files_is_writable(caged: Tools) -> None:
    """Root without capabilities may still write settings; so the folder is read-only as a whole."""
    assert await says(caged, "find /proc -maxdepth 4 -type f -writable 2>/dev/null | head -n 3; cd /; echo x > /dev/stdout") == [
        "exit_code=0",
        "x",
    ]


async def test_it_holds_no_capability_and_can_gain_none(caged: Tools) -> None:
    said = await says(caged, "grep -E '^(Cap(Eff|Prm|Bnd)|NoNewPrivs):' /proc/self/status | tr -d '\\t'")
    assert said == ["exit_code=0", "CapPrm:0000000000000000", "CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1"]


async def test_its_namespaces_are_its_own(caged: Tools) -> None:
    for name in ("user", "pid", "net", "ipc", "uts", "mnt"):
        inside = (await says(caged, f"readlink /proc/self/ns/{name}"))[1]
        assert inside.startswith(f"{name}:[")
        assert inside != os.readlink(f"/proc/self/ns/{name}")


# --- how it ends, and when it does not begin ----------------------------------------------------------


async def test_everything_inside_ends_with_the_shell(caged: Tools, workspace: Path) -> None:
    """Not by name or group: the namespace of processes goes as a whole."""
    result = await caged.call("bash", command="(setsid env -i sleep 4242 &); setsid sleep 4242 & sleep 4242", timeout=1)
    assert result.content.startswith("exit_code=124\n")
    await until(lambda: not running("sleep 4242"))


async def test_it_dies_with_its_host(workspace: Path) -> None:
    program = HOST.format(support=str(Path(__file__).parent.parent / "support"), workspace=str(workspace))
    with subprocess.Popen([sys.executable, "-c", program]) as host:
        await until((workspace / "up").exists)
        host.send_signal(signal.SIGKILL)
    await until(lambda: not running("sleep 4343"))


HOST = """
import asyncio, sys
sys.path[:0] = [{support!r}]
from shells import Tools
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.shell.bubblewrap import BubblewrapShellBackend
tools = Tools(RuntimeEnv({workspace!r}, shell_backend=BubblewrapShellBackend()), "off")
asyncio.run(tools.bash("(setsid env -i sleep 4343 &); touch up; sleep 4343"))
"""


def test_a_shell_outlives_the_thread_that_asked_for_it(caged: Tools) -> None:
    said: list[Any] = []
    for command in ("X=1", "echo $X"):
        thread = threading.Thread(target=lambda command=command: said.append(asyncio.run(caged.bash(command))))
        thread.start()
        thread.join()
    assert said == ["exit_code=0", "exit_code=0\n1"]
    close_all_bash_sessions()


def running(args: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if line == args:
            found.append(folder.name)
    return found


async def test_without_bubblewrap_no_command_runs(caged: Tools, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeEnvError, match="not installed"):
        found_bwrap()
    for name, arguments in (("bash", {"command": "touch made"}), ("background_run", {"command": "touch made"})):
        result = await caged.call(name, ToolRun(session_id="s"), **arguments)
        assert not result.ok
        assert "bubblewrap is not installed" in result.content
    assert not os.path.exists(workspace / "made")


async def test_where_the_kernel_refuses_the_sandbox_no_command_runs(
    make_tools: Callable[..., Tools], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bubblewrap that fails as it does without user namespaces: it says so and starts nothing."""
    fake = workspace.parent / "bin"
    fake.mkdir()
    (fake / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (fake / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:/usr/bin:/bin")
    result = await make_tools(BubblewrapShellBackend()).call("bash", command="touch made")
    assert not result.ok
    assert "No permissions to create new namespace" in result.content
    assert not os.path.exists(workspace / "made")


@pytest.mark.parametrize("folder", ["/", "/usr", "/etc", "/var", "/no/such/folder"])
def test_a_workspace_that_holds_the_system_is_refused(folder: str) -> None:
    with pytest.raises(RuntimeEnvError):
        workspace_of(folder)


async def test_a_workspace_that_is_a_link_into_the_system_is_refused(workspace: Path) -> None:
    (workspace / "sys").symlink_to("/usr")
    env = RuntimeEnv(workspace / "sys", shell_backend=BubblewrapShellBackend())
    result = await Tools(env, "off").call("bash", command="echo hi")
    assert not result.ok
