"""Files that nobody should hand to a model: huge ones, unreadable ones, and what every tool says of them."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

GIB = 1 << 30
NOBODY = 65_534
LINE = b"an ordinary line of text, again and again\n"


@pytest.fixture
def holes(desk: Any) -> Path:
    """A file of one GiB that takes no room on the disk."""
    path = desk.put("holes.bin", b"")
    with path.open("r+b") as file:
        file.truncate(GIB)
    return path


def test_a_file_of_a_gibibyte_is_named_refused_and_never_held(desk: Any, holes: Path) -> None:
    tracemalloc.start()
    try:
        assert f"is a binary file of {GIB} bytes" in desk.bad("read_file", path="holes.bin")
        assert f"is a binary file of {GIB} bytes" in desk.bad("read_file", path="holes.bin", limit=5)
        for tool, args in (("edit_file", {"old_text": "a", "new_text": "b"}), ("apply_patch", {"patch": "@@ -1,1 +1,1 @@\n-a\n+b\n"})):
            assert "holes.bin" in desk.bad(tool, path="holes.bin", **args)
        assert "holes.bin" in desk.bad("write_file", path="holes.bin", content="x"), "nobody has read it"
        assert desk.names("*.bin") == ["holes.bin"]
        assert desk.good("grep", pattern="x", include="*.bin") == "no line matches"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, f"{peak >> 20} MiB"
    assert holes.stat().st_size == GIB


def test_a_text_too_large_to_be_changed_is_read_in_parts_and_stays_as_it_is(desk: Any) -> None:
    path = desk.put("log.txt", b"")
    with path.open("wb") as file:
        for _ in range(70):
            file.write(LINE * (1024 * 1024 // len(LINE) + 1))
        file.write(b"a needle\n")
    assert desk.good("grep", pattern="needle", literal=True).endswith(":a needle"), "what ripgrep is spared is searched here"
    size = path.stat().st_size
    assert "give a limit" in desk.bad("read_file", path="log.txt")
    assert "showing lines 5-6 of" in desk.good("read_file", path="log.txt", offset=5, limit=2)
    assert "too large to be changed" in desk.bad("edit_file", path="log.txt", old_text="ordinary", new_text="odd", replace_all=True)
    assert "too large to be changed" in desk.bad("apply_patch", path="log.txt", patch=f"@@ -1,1 +1,1 @@\n-{LINE.decode()}+odd\n")
    assert path.stat().st_size == size


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Has this thread touch files as a user who may not read everything, where it may: the administrator on Linux."""
    if not sys.platform.startswith("linux"):
        yield lambda: None
        return
    system, own = ctypes.CDLL(None, use_errno=True), os.geteuid()
    yield lambda: system.setfsuid(NOBODY if own == 0 else own)
    system.setfsuid(own)


@pytest.fixture
def open_desk(desk: Any) -> Iterator[Any]:
    """A desk in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield type(desk)(Path(folder) / "work")


def test_a_file_that_may_not_be_read_is_refused_by_every_tool(
    open_desk: Any, as_nobody: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_desk.put("secret.txt", "x").chmod(0)
    open_desk.put("open.txt", "x")
    monkeypatch.setenv("PATH", "")  # another program would be the administrator again
    as_nobody()
    for tool, args in (
        ("read_file", {}),
        ("edit_file", {"old_text": "x", "new_text": "y"}),
        ("apply_patch", {"patch": "@@ -1,1 +1,1 @@\n-x\n+y\n"}),
    ):
        text = open_desk.bad(tool, path="secret.txt", **args)
        assert "secret.txt" in text
        assert "denied" in text.lower() or "read it first" in text, text
    assert open_desk.good("grep", pattern="x", literal=True) == "open.txt:1:x"


def test_a_patch_that_was_applied_does_not_apply_again(desk: Any) -> None:
    desk.put("a.txt", "one\ntwo\nthree\n")
    desk.good("read_file", path="a.txt")
    patch = "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    desk.good("apply_patch", path="a.txt", patch=patch)
    assert "two" in desk.bad("apply_patch", path="a.txt", patch=patch)
    assert (desk.workspace / "a.txt").read_text() == "one\n2\nthree\n"
