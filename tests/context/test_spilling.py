"""Spilling: old results out of requests and into files, where somebody wants that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, SpillPolicy, tool
from power_loop.testing import call, say


@tool(effects="pure")
def read(part: int) -> str:
    """Read a part."""
    return f"part {part} " + "x" * 300


def reading(desk: Any, rounds: int) -> None:
    asked = iter(range(1, rounds + 1))
    desk.answers(lambda _: call("read", part=part) if (part := next(asked, None)) else say("done"))


def results(desk: Any) -> list[str]:
    return [message["content"] for message in desk.requests[-1].messages if message["role"] == "tool"]


def inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


# acceptance: 97
async def test_nothing_is_moved_unless_somebody_says_so(desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reading(desk, 4)
    await desk.loop(tools=[read], spill=SpillPolicy(size_limit=10, hot_tail=1)).run("go")
    assert all(text.endswith("xxx") for text in results(desk))
    assert inside(tmp_path) == []


# acceptance: 97
async def test_old_long_results_become_files_and_the_newest_stay(desk: Any, tmp_path: Path) -> None:
    reading(desk, 4)
    loop = desk.loop(tools=[read], spill=SpillPolicy(enabled=True, size_limit=100, hot_tail=1, dir=tmp_path))
    session = (await loop.run("go")).session_id
    shown = results(desk)
    assert [text.startswith("[This result of 307 characters was moved to ") for text in shown] == [True, True, True, False]
    paths = [Path(text.partition("moved to ")[2].partition(";")[0]) for text in shown[:3]]
    assert [path.read_text() for path in paths] == [f"part {n} " + "x" * 300 for n in (1, 2, 3)]
    assert {path.parent for path in paths} == {tmp_path / session}
    stored = await desk.store.load_all_messages(session)
    assert all(row.content.endswith("xxx") for row in stored if row.role == "tool")


# acceptance: 97
async def test_two_sessions_never_touch_each_others_files(desk: Any, tmp_path: Path) -> None:
    policy = SpillPolicy(enabled=True, size_limit=100, hot_tail=0, dir=tmp_path)
    sessions = ["..", "a/b", "a", "A"]
    for session in sessions:
        reading(desk, 2)
        loop = desk.loop(tools=[read], spill=policy)
        await loop.new_session(session_id=session)
        await loop.send("go", session)
    folders = inside(tmp_path)
    assert len(folders) == len(sessions)
    assert all(len(inside(folder)) == 2 for folder in folders)
    assert not (tmp_path.parent / "part").exists()


async def test_a_file_that_is_there_is_never_written_again(desk: Any, tmp_path: Path) -> None:
    reading(desk, 3)
    loop = desk.loop(tools=[read], spill=SpillPolicy(enabled=True, size_limit=100, hot_tail=1, dir=tmp_path))
    session = (await loop.run("go")).session_id
    path = inside(tmp_path / session)[0]
    path.write_text("mine")
    await loop.send("and?", session)
    assert path.read_text() == "mine"


async def test_a_disk_that_takes_nothing_fails_no_send(desk: Any, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("no folder")
    reading(desk, 3)
    loop = desk.loop(tools=[read], spill=SpillPolicy(enabled=True, size_limit=100, hot_tail=1, dir=place))
    assert (await loop.run("go")).status == "completed"
    assert all(text.endswith("xxx") for text in results(desk))


def test_the_names_of_the_line_before_and_the_environment_set_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentLoopConfig(microcompact_enabled=True, microcompact_size_limit=7, microcompact_spill_dir="d")
    assert config.context.spill == SpillPolicy(True, 7, 10, "d")
    assert (config.microcompact_hot_tail, config.microcompact_enabled) == (10, True)
    monkeypatch.setenv("CONTEXT_MICRO_SIZE_LIMIT", "99")
    monkeypatch.setenv("CONTEXT_MICRO_HOT_TAIL", "3")
    assert config.spilling() == SpillPolicy(True, 7, 3, "d")
    assert AgentLoopConfig().spilling() is None
    with pytest.raises(ValueError, match=r"context\.spill\.size_limit"):
        config.microcompact_size_limit = 0
