"""No path, pattern or link leads the file tools out of their roots: not at rest, and not while links are swapped."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power_loop.contracts.tool import ToolRun
from power_loop.tools import folders
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.presets import create_default_tool_registry

SECRET = "the secret of the neighbours"
CONTENT = f"door\n{SECRET}\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the workspace, with a secret in it."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    for name in ("secret.txt", "sub/secret.txt"):
        (folder / name).write_text(CONTENT)
    return folder


def everything(desk: Any, path: str, **more: Any) -> list[tuple[bool, str]]:
    """All that the tools say about ``path``."""
    return [
        desk.call("read_file", path=path),
        desk.call("write_file", path=path, content="overwritten"),
        desk.call("edit_file", path=path, old_text="door", new_text="gate"),
        desk.call("apply_patch", path=path, patch="@@ -1 +1 @@\n-door\n+gate\n"),
        desk.call("grep", pattern="secret", path=path),
        desk.call("glob", pattern="*", path=path),
    ]


def untouched(outside: Path) -> bool:
    return {str(p.relative_to(outside)): p.read_text() for p in outside.rglob("*") if p.is_file()} == {
        "secret.txt": CONTENT, "sub/secret.txt": CONTENT,
    }  # fmt: skip


# acceptance: 172
@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "a/../../outside/secret.txt",
        "{outside}/secret.txt",
        "file-link",
        "folder-link/secret.txt",
        "folder-link",
        "folder-link/sub/secret.txt",
        "chain",
        "a/up/outside/secret.txt",
        "@workspace/../outside/secret.txt",
        "@home/../outside/secret.txt",
        "@home/secret.txt",
        "~/secret.txt",
        "{outside}",
        "..",
        "/",
        "a/up",
        "@home/.cache/link/secret.txt",
        "a/./up//outside/sub/../secret.txt",
    ],
)
def test_no_path_leads_outside(desk: Any, outside: Path, way: str, searcher: str, path: str, tmp_path: Path) -> None:
    (desk.workspace / "a").mkdir()
    (desk.workspace / "file-link").symlink_to(outside / "secret.txt")
    (desk.workspace / "folder-link").symlink_to("../outside")
    (desk.workspace / "chain").symlink_to("file-link")
    (desk.workspace / "a" / "up").symlink_to("../..")
    (tmp_path / "home" / ".cache").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "link").symlink_to(outside)
    (tmp_path / "home" / "secret.txt").write_text(CONTENT)
    for ok, text in everything(desk, path.format(outside=outside)):
        assert not ok
        assert SECRET not in text
        assert str(tmp_path) not in text
    assert untouched(outside)


# acceptance: 172 (patterns)
@pytest.mark.parametrize("pattern", ["**", "*", "**/*.txt", "link/*", "link/**", "li*/*", "**/secret.txt", "link/sub/*", "{link,x}/**/*"])
def test_no_pattern_leads_through_a_link(desk: Any, outside: Path, way: str, searcher: str, pattern: str) -> None:
    (desk.workspace / "link").symlink_to(outside)
    (desk.workspace / "secret-link.txt").symlink_to(outside / "secret.txt")
    desk.put("own.txt", "no secret of ours")
    assert set(desk.names(pattern, include_hidden=True)) <= {"own.txt"}
    assert SECRET not in desk.good("grep", pattern="secret", include=pattern)
    assert SECRET not in desk.good("grep", pattern="secret", include_hidden=True)


def test_links_that_stay_inside_are_followed_by_name_and_not_by_walks(desk: Any, way: str) -> None:
    desk.put("real/a.txt", "needle")
    (desk.workspace / "link").symlink_to("real")
    (desk.workspace / "b.txt").symlink_to("real/a.txt")
    assert desk.good("read_file", path="link/a.txt").startswith("real/a.txt: showing lines 1-1")
    assert desk.names("*.txt") == ["b.txt", "real/a.txt"]
    assert desk.good("grep", pattern="needle") == "real/a.txt:1:needle"
    desk.good("edit_file", path="b.txt", old_text="needle", new_text="thread")
    assert (desk.workspace / "b.txt").is_symlink()
    assert (desk.workspace / "real/a.txt").read_text() == "thread"


def test_read_only_roots_and_the_open_parts_of_the_home(desk_of: Callable[..., Any], outside: Path, tmp_path: Path, way: str) -> None:
    desk = desk_of(read_only_roots=[outside])
    assert SECRET in desk.good("read_file", path=str(outside / "secret.txt"))
    assert desk.good("grep", pattern="neighbours", path=str(outside)).count("secret.txt:2:") == 2
    assert len(desk.names("**", path=str(outside))) == 2
    assert "read-only folder" in desk.bad("write_file", path=str(outside / "new.txt"), content="x")
    (outside / "out").symlink_to(tmp_path)
    assert "outside" in desk.bad("read_file", path=str(outside / "out" / "home"))
    desk.good("write_file", path="@home/logs/a.log", content="x")
    desk.good("write_file", path="@home/skills/mine/SKILL.md", content="x")
    assert "outside" in desk.bad("write_file", path="@home/sessions.db", content="x")
    (outside / "out").unlink()
    assert untouched(outside)


def test_the_root_of_a_loaded_skill_is_readable_by_its_session_only(tmp_path: Path, outside: Path) -> None:
    env = RuntimeEnv(tmp_path / "work", tmp_path / "home")
    with pytest.raises(ValueError, match="outside"):
        env.safe_path(outside / "secret.txt", for_reading=True)
    assert env.safe_path(outside / "secret.txt", for_reading=True, also=[str(outside)]) == outside / "secret.txt"
    with pytest.raises(ValueError, match="read-only"):
        env.safe_path(outside / "secret.txt", also=[str(outside)])


def test_a_root_that_is_replaced_by_a_link_leads_nowhere(desk: Any, outside: Path) -> None:
    desk.workspace.rmdir()
    desk.workspace.symlink_to(outside)
    for ok, text in everything(desk, "secret.txt"):
        assert not ok
        assert SECRET not in text
    assert untouched(outside)


def test_a_skills_root_that_is_replaced_by_a_link_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    """A sandboxed shell may write to the workspace, and the skills may lie there."""
    skill = tmp_path / "work" / "skills" / "mine"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: mine\ndescription: d\n---\nbody\n")
    registry = create_default_tool_registry(
        include=("load_skill", "read_file"), workspace_dir=tmp_path / "work", home_dir=tmp_path / "home", skills_dir=skill.parent
    )
    run = ToolRun(session_id="s")
    assert registry.invoke("load_skill", {"name": "mine"}, run=run).ok
    shutil.rmtree(skill)
    skill.symlink_to(outside)
    for path in (outside / "secret.txt", skill / "secret.txt"):
        result = registry.invoke("read_file", {"path": str(path)}, run=run)
        assert not result.ok
        assert SECRET not in result.content


def test_a_home_in_the_workspace_that_is_replaced_by_a_link_leads_nowhere(desk_of: Callable[..., Any], desk: Any, outside: Path) -> None:
    (outside / "logs").mkdir()
    (outside / "logs" / "secret.txt").write_text(SECRET)
    desk = desk_of(home_dir=desk.workspace / ".home")
    desk.good("write_file", path="@home/logs/a.log", content="ours")
    shutil.rmtree(desk.workspace / ".home")
    (desk.workspace / ".home").symlink_to(outside)
    for path in ("@home/logs/secret.txt", ".home/logs/secret.txt", str(outside / "logs" / "secret.txt")):
        assert "outside" in desk.bad("read_file", path=path)
        assert "outside" in desk.bad("write_file", path=path, content="x")
    assert (outside / "logs" / "secret.txt").read_text() == SECRET


def test_a_read_only_folder_in_the_workspace_stays_one(desk_of: Callable[..., Any], desk: Any, way: str) -> None:
    desk.put("vendor/lib.txt", "theirs")
    desk = desk_of(read_only_roots=[desk.workspace / "vendor", desk.workspace])
    assert "theirs" in desk.good("read_file", path="vendor/lib.txt")
    for tool, args in (
        ("write_file", {"content": "x"}), ("edit_file", {"old_text": "theirs", "new_text": "x"}),
        ("apply_patch", {"patch": "@@ -1 +1 @@\n-theirs\n+x\n"}),
    ):  # fmt: skip
        assert "read-only folder" in desk.bad(tool, path="vendor/lib.txt", **args)
    assert "read-only folder" in desk.bad("write_file", path="vendor/new.txt", content="x")
    desk.good("write_file", path="vendors.txt", content="x")


# --- swaps between look and use -----------------------------------------------------------------------


def test_a_link_that_appears_after_the_look_is_not_followed(desk: Any, outside: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst moment: the path was allowed, and every component is replaced before it is opened."""
    desk.put("folder/secret.txt", "ours")
    desk.put("secret.txt", "ours")
    desk.good("read_file", path="folder/secret.txt")
    desk.good("read_file", path="secret.txt")
    place = RuntimeEnv.place

    def swapped(env: RuntimeEnv, path: Any, **more: Any) -> Any:
        found = place(env, path, **more)
        for name, target in (("folder", outside), ("secret.txt", outside / "secret.txt")):
            spot = desk.workspace / name
            if not spot.is_symlink():
                spot.rename(desk.workspace / f"old-{name}")
                spot.symlink_to(target)
        return found

    monkeypatch.setattr(RuntimeEnv, "place", swapped)
    for path in ("folder/secret.txt", "secret.txt", "folder/new.txt", "folder/sub/secret.txt", "folder"):
        for name in ("folder", "secret.txt"):
            spot = desk.workspace / name
            if spot.is_symlink():
                spot.unlink()
                (desk.workspace / f"old-{name}").rename(spot)
        for _, text in everything(desk, path):
            assert SECRET not in text
    assert untouched(outside)


def test_links_that_are_swapped_all_the_time_never_lead_outside(desk: Any, outside: Path, searcher: str) -> None:
    """A thread swaps a folder, and a file, for links to the outside and back, while the tools work on them."""
    desk.put("d/secret.txt", "ours, no secret")
    desk.put("f", "ours, no secret")
    os.symlink(outside, desk.workspace / "link-d")
    os.symlink(outside / "secret.txt", desk.workspace / "link-f")
    done = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not done.is_set():
            for name in ("d", "f"):
                at = [str(desk.workspace / each) for each in (name, f"link-{name}", f"old-{name}")]
                try:
                    os.rename(at[0], at[2])
                    os.rename(at[1], at[0])
                    os.rename(at[0], at[1])
                    os.rename(at[2], at[0])
                except OSError:  # a tool made the name meanwhile: put it away
                    pass
                swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    said: list[str] = []
    try:
        for n in count():
            if n >= 60 and swaps > 100:
                break
            for path in ("d/secret.txt", "f", "d", "link-d/secret.txt", "link-f"):
                said += [text for _, text in (desk.call("read_file", path=path), desk.call("grep", pattern="secret", path=path))]
                desk.call("write_file", path=path, content=f"ours, no secret {n}")
                desk.call("edit_file", path=path, old_text="ours", new_text="our")
            said += [desk.call("grep", pattern="secret")[1], desk.call("glob", pattern="**")[1]]
    finally:
        done.set()
        thread.join()
    assert not [text for text in said if SECRET in text]
    assert untouched(outside)
    assert any("no secret" in text for text in said)


# --- random trees -------------------------------------------------------------------------------------

SPOTS = ["a", "b", "a/c", "b/c", "a/c/d"]
TARGETS = [
    "..",
    "../..",
    "../outside",
    "../../outside",
    "../../../outside",
    "a",
    "b",
    "c",
    ".",
    "/",
    "{outside}",
    "{outside}/secret.txt",
    "../b",
    "secret.txt",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.lists(st.tuples(st.sampled_from(SPOTS), st.sampled_from(TARGETS)), max_size=6),
    path=st.lists(st.sampled_from(["a", "b", "c", "d", "..", "outside", "secret.txt", "sub", "."]), min_size=1, max_size=7),
)
def test_in_random_trees_of_links_nothing_outside_is_read_or_written(
    desk: Any, outside: Path, tree: list[tuple[str, str]], path: list[str]
) -> None:
    desk = type(desk)(desk.workspace.parent / f"work-{os.urandom(6).hex()}")
    for spot, target in tree:
        at = desk.workspace / spot
        try:
            at.parent.mkdir(parents=True, exist_ok=True)
            if at.parent.resolve().is_relative_to(desk.workspace):
                at.symlink_to(target.format(outside=outside))
        except OSError:
            continue
    for _, text in everything(desk, "/".join(path)):
        assert SECRET not in text
    assert SECRET not in desk.call("grep", pattern="secret", include_hidden=True)[1]
    assert untouched(outside)


def test_many_folders_deep_is_as_deep_as_a_walk_goes(desk: Any) -> None:
    deep = "/".join(["d"] * 60)
    desk.put(f"{deep}/x.txt", "needle")
    assert desk.names("x.txt") == [f"{deep}/x.txt"]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    desk.good("grep", pattern="needle")
    desk.bad("read_file", path="d/missing")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


@pytest.fixture
def desk_of(desk: Any) -> Callable[..., Any]:
    """A desk with more of an environment than a workspace."""
    return lambda **environment: type(desk)(desk.workspace, **environment)


def test_a_system_without_handles_refuses_a_folder_that_became_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    folder = folders.ByPath.root(str(tmp_path / "root")).enter("a")
    (tmp_path / "root" / "a").rmdir()
    (tmp_path / "root" / "a").symlink_to(outside)
    uses: list[Callable[[], Any]] = [
        lambda: folder.open_file("secret.txt"),
        folder.entries,
        lambda: folder.create("x", 0o600),
        lambda: folder.status("secret.txt"),
        lambda: folder.make("x"),
        lambda: folder.move("secret.txt", "x"),
        lambda: folder.link("secret.txt", "x"),
        lambda: folder.remove("secret.txt"),
        lambda: folder.enter("sub"),
    ]
    for use in uses:
        with pytest.raises(OSError, match=r"Not a directory|symbolic link"):
            use()
    assert untouched(outside)


def test_the_tools_work_where_the_session_has_no_id(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    registry = create_default_tool_registry(include=["write_file"], workspace_dir=tmp_path / "work")
    assert registry.invoke("write_file", {"path": "a", "content": "x"}, run=ToolRun()).ok
