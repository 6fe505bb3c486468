"""read_file, write_file and edit_file: what is shown, what is kept, and what has to be read first."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.contracts.tool import ToolRun
from power_loop.tools.builtin import saving
from power_loop.tools.builtin.edits import EditError, replace
from power_loop.tools.builtin.given import MAX_STAMPS, SessionMemory, Stamp
from power_loop.tools.builtin.text import Text
from power_loop.tools.folders import ByHandle

SCRIPTS = {"chinese": "你好，世界", "cyrillic": "Привет, мир", "arabic": "مرحبا بالعالم", "emoji": "héllo 👩‍👩‍👧 🎉"}


# --- reading -----------------------------------------------------------------------------------------


def test_lines_are_numbered_and_the_reader_is_told_how_to_go_on(desk: Any) -> None:
    desk.put("a.txt", "".join(f"line {n}\n" for n in range(1, 8)))
    assert desk.good("read_file", path="a.txt", offset=3, limit=2).split("\n") == [
        "a.txt: showing lines 3-4 of 7",
        "     3|line 3",
        "     4|line 4",
        "[3 more lines: continue with offset=5]",
    ]
    assert "showing lines 5-7 of 7" in desk.good("read_file", path="@workspace/a.txt", offset=5)
    assert "has 7 lines" in desk.bad("read_file", path="a.txt", offset=8)


def test_two_thousand_lines_are_shown_unless_more_are_asked_for(desk: Any) -> None:
    desk.put("long.txt", "x\n" * 30_000)
    assert "showing lines 1-2000 of 30000" in desk.good("read_file", path="long.txt")
    assert "showing lines 1-20000 of 30000" in desk.good("read_file", path="long.txt", limit=20_000)
    assert desk.registry.validate("read_file", {"path": "long.txt", "limit": 20_001}) is not None


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\rc\r\n", ["a", "b\rc"]),
        (b"\n", [""]),
        (b"\xff\n", ["\ufffd"]),
    ],
)
def test_lines_end_where_editors_end_them(desk: Any, content: bytes, lines: list[str]) -> None:
    desk.put("a", content)
    shown = desk.good("read_file", path="a").split("\n")[1:]
    assert shown == [f"{n:>6}|{line}" for n, line in enumerate(lines, 1)]


# acceptance: 173 (read)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_text_of_every_script_and_unicode_encoding_is_read_and_found(desk: Any, script: str, codec: str) -> None:
    text = SCRIPTS[script]
    mark = b"\xfe\xff" if codec == "utf-16-be" else b""
    desk.put("a.txt", mark + f"before\n{text}\nafter\n".encode(codec))
    assert f"     2|{text}" in desk.good("read_file", path="a.txt")
    assert desk.good("grep", pattern=text, literal=True) == f"a.txt:2:{text}"


def test_a_character_that_lies_across_two_chunks_is_whole(desk: Any) -> None:
    desk.put("a.txt", "x" * (256 * 1024 - 1) + "ж\nend\n")
    assert desk.good("read_file", path="a.txt").split("\n")[1].endswith("xж")


def test_binary_files_are_named_and_not_shown(desk: Any) -> None:
    desk.put("a.bin", b"\x7fELF\x00\x01")
    assert "binary file of 6 bytes" in desk.bad("read_file", path="a.bin")
    desk.put("late.txt", b"x" * 9000 + b"\0")  # text: only the beginning decides
    assert "showing lines 1-1" in desk.good("read_file", path="late.txt")


def test_a_binary_file_is_said_not_to_be_replaced_where_reading_it_is_asked_for(desk: Any) -> None:
    place = desk.put("a.bin", b"\x7fELF\x00\x01")
    assert "read it with read_file first" in desk.bad("write_file", path="a.bin", content="text")
    assert "no tool for files replaces it" in desk.bad("read_file", path="a.bin")
    assert place.read_bytes().startswith(b"\x7fELF")


# acceptance: 172 (what is no file)
def test_pipes_devices_and_unreadable_files_are_refused_at_once(desk: Any, way: str) -> None:
    os.mkfifo(desk.workspace / "pipe")
    assert "no regular file" in desk.bad("read_file", path="pipe")
    assert "no regular file" in desk.bad("write_file", path="pipe", content="x")
    assert "no such file" in desk.bad("read_file", path="missing")
    assert "no folder" in desk.bad("read_file", path=str(desk.put("a", "x").relative_to(desk.workspace)) + "/b")


def test_a_folder_is_listed_with_folders_first(desk: Any, way: str) -> None:
    for name in ("b.txt", "a.txt", "sub/x", ".hidden"):
        desk.put(name, "")
    (desk.workspace / "link").symlink_to("/etc")
    assert desk.good("read_file", path=".").split("\n") == [
        ".: a folder with 5 entries", "sub/", ".hidden", "a.txt", "b.txt", "link (link)",
    ]  # fmt: skip
    for n in range(300):
        desk.put(f"many/{n:03}", "")
    listed = desk.good("read_file", path="many").split("\n")
    assert (len(listed), listed[-1]) == (202, "[100 more entries: use glob]")


def test_a_file_name_that_is_no_text_is_listed_in_one_line(desk: Any) -> None:
    (desk.workspace / os.fsdecode(b"caf\xe9")).write_text("")
    (desk.workspace / "two\nlines").write_text("")
    assert desk.good("read_file", path=".").split("\n")[1:] == ["caf\ufffd", "two\\nlines"]


# acceptance: 173 (a slice holds a slice)
def test_memory_does_not_grow_with_the_file_nor_with_its_lines(desk: Any) -> None:
    with (desk.workspace / "huge.txt").open("wb") as file:
        for _ in range(64):
            file.write(b"0123456789abcde\n" * 65536)  # 64 MiB in short lines
        file.write(b"x" * (64 << 20))  # and 64 MiB in one
    assert "give a limit" in desk.bad("read_file", path="huge.txt")
    tracemalloc.start()
    try:
        assert "showing lines 4194300-4194301 of 4194305" in desk.good("read_file", path="huge.txt", offset=4194300, limit=2)
        assert "is cut here" in desk.good("read_file", path="huge.txt", offset=4194305, limit=1)
        assert desk.good("grep", pattern="no such text", literal=True) == "no line matches"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20, f"{peak >> 20} MiB"


# --- writing -----------------------------------------------------------------------------------------


def test_a_new_file_is_written_with_its_folders(desk: Any, way: str) -> None:
    text = desk.good("write_file", path="a/b/c.txt", content="größe\n")
    assert "8 bytes" in text
    assert (desk.workspace / "a/b/c.txt").read_bytes() == "größe\n".encode()
    assert os.listdir(desk.workspace / "a/b") == ["c.txt"]


def test_the_same_content_again_is_a_success_whoever_wrote_it(desk: Any) -> None:
    path = desk.put("a.txt", "same")
    before = path.stat().st_mtime_ns
    assert "already" in desk.good("write_file", path="a.txt", content="same", overwrite=False)
    assert path.stat().st_mtime_ns == before


def test_overwrite_false_leaves_another_content_alone(desk: Any) -> None:
    path = desk.put("a.txt", "theirs")
    desk.good("read_file", path="a.txt")
    assert "exists" in desk.bad("write_file", path="a.txt", content="ours", overwrite=False)
    assert path.read_text() == "theirs"


# acceptance: 175 (read first)
@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("write_file", {"content": "new"}),
        ("edit_file", {"old_text": "b", "new_text": "B"}),
        ("apply_patch", {"patch": "@@ -2 +2 @@\n-b\n+B\n"}),
    ],
)
def test_a_session_changes_only_what_it_has_read_itself(desk: Any, tool: str, args: dict[str, str]) -> None:
    path = desk.put("a.txt", "a\nb\n")
    desk.good("read_file", path="a.txt", session="two")
    assert "has not been read in this session" in desk.bad(tool, path="a.txt", session="one", **args)
    assert path.read_text() == "a\nb\n"
    desk.good("read_file", path="a.txt", session="one")
    path.write_text("a\nb\nc\n")
    assert "has changed since it was read" in desk.bad(tool, path="a.txt", session="one", **args)
    assert path.read_text() == "a\nb\nc\n"
    desk.good("read_file", path="a.txt", session="one")
    desk.good(tool, path="a.txt", session="one", **args)
    assert path.read_text() in ("new", "a\nB\nc\n")


def test_what_a_session_wrote_itself_needs_no_reading(desk: Any) -> None:
    desk.good("write_file", path="a.txt", content="one")
    desk.good("edit_file", path="a.txt", old_text="one", new_text="two")
    desk.good("write_file", path="a.txt", content="three")
    assert "has not been read" in desk.bad("write_file", path="a.txt", content="four", session="two")


def test_sessions_of_two_stores_with_one_id_do_not_share_what_they_read(desk: Any) -> None:
    class Store:
        pass

    ours, theirs = Store(), Store()
    desk.put("a.txt", "a")
    desk.good("read_file", path="a.txt", run=ToolRun(session_id="s", store=ours))
    assert "has not been read" in desk.bad("write_file", path="a.txt", content="b", run=ToolRun(session_id="s", store=theirs))
    desk.good("write_file", path="a.txt", content="b", run=ToolRun(session_id="s", store=ours))


def test_a_session_remembers_the_files_it_read_last() -> None:
    memory = SessionMemory()
    for n in range(MAX_STAMPS + 1):
        memory.saw(str(n), Stamp(n, n))
    assert (memory.seen("0"), memory.seen("1")) == (None, Stamp(1, 1))


def test_mode_is_kept_and_a_protected_file_is_left_alone(desk: Any) -> None:
    path = desk.put("run.sh", "echo 1\n")
    path.chmod(0o751)
    desk.good("read_file", path="run.sh")
    desk.good("edit_file", path="run.sh", old_text="1", new_text="2")
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("echo 2\n", 0o751)
    path.chmod(0o444)
    assert "write-protected (mode 444)" in desk.bad("write_file", path="run.sh", content="x")


def test_a_file_that_appears_or_changes_just_before_the_rename_is_left_alone(desk: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.put("a.txt", "read")
    desk.good("read_file", path="a.txt")
    written = saving._written

    def and_somebody_else(*args: Any) -> Stamp:
        stamp = written(*args)
        (desk.workspace / "a.txt").write_text("theirs, meanwhile")
        (desk.workspace / "new.txt").write_text("theirs, meanwhile")
        return stamp

    monkeypatch.setattr(saving, "_written", and_somebody_else)
    assert "has changed since it was read" in desk.bad("write_file", path="a.txt", content="ours")
    (desk.workspace / "new.txt").unlink()
    assert "made by somebody else" in desk.bad("write_file", path="new.txt", content="ours")
    assert sorted(os.listdir(desk.workspace)) == ["a.txt", "new.txt"]
    assert path.read_text() == (desk.workspace / "new.txt").read_text() == "theirs, meanwhile"


def test_a_file_system_without_hard_links_takes_new_files_too(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(ByHandle, "link", refuse)
    desk.good("write_file", path="a.txt", content="a")
    assert os.listdir(desk.workspace) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_and_no_other(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.put("a.txt", "old")
    desk.good("read_file", path="a.txt")
    write = os.write

    def full(fd: int, data: Any) -> int:
        if bytes(data[:3]) == b"new":
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    assert "the disk is full" in desk.bad("write_file", path="a.txt", content="new")
    assert (path.read_text(), os.listdir(desk.workspace)) == ("old", ["a.txt"])


def test_text_that_no_file_can_hold_is_refused(desk: Any) -> None:
    assert "lone surrogate" in desk.bad("write_file", path="a.txt", content="\ud800")
    assert "NUL" in desk.bad("write_file", path="a\0b", content="x")
    assert "cannot be used" in desk.bad("write_file", path="x" * 300, content="x")
    assert "folder" in desk.bad("write_file", path=".", content="x")


# --- editing -----------------------------------------------------------------------------------------


def test_an_edit_shows_what_it_changed_with_line_numbers(desk: Any) -> None:
    desk.put("a.py", "".join(f"x{n} = {n}\n" for n in range(100)))
    desk.good("read_file", path="a.py")
    assert desk.good("edit_file", path="a.py", old_text="x50 = 50\n", new_text="x50 = 'fifty'\n").split("\n") == [
        "edited a.py", "--- a/a.py", "+++ b/a.py", "@@ -48,7 +48,7 @@",
        " x47 = 47", " x48 = 48", " x49 = 49", "-x50 = 50", "+x50 = 'fifty'", " x51 = 51", " x52 = 52", " x53 = 53",
    ]  # fmt: skip


def test_text_that_stands_in_several_places_is_not_guessed_at(desk: Any) -> None:
    path = desk.put("a.txt", "aXa\nb\naXa\n")
    desk.good("read_file", path="a.txt")
    assert "2 times in the file (lines 1, 3)" in desk.bad("edit_file", path="a.txt", old_text="aXa", new_text="c")
    assert "in 2 places" in desk.good("edit_file", path="a.txt", old_text="aXa", new_text="c", replace_all=True)
    assert path.read_text() == "c\nb\nc\n"


def test_a_near_miss_is_a_hint_and_never_an_edit(desk: Any) -> None:
    path = desk.put("a.py", "def f():\n    return  1\n")
    desk.good("read_file", path="a.py")
    assert "line 2 differs from it in blanks only" in desk.bad("edit_file", path="a.py", old_text="    return 1", new_text="x")
    assert "copy the text exactly" in desk.bad("edit_file", path="a.py", old_text="nothing like it", new_text="x")
    assert "nothing would change" in desk.bad("edit_file", path="a.py", old_text="1", new_text="1")
    assert "old_text is empty" in desk.bad("edit_file", path="a.py", old_text="", new_text="1")
    assert path.read_text() == "def f():\n    return  1\n"


# acceptance: 173 (an edit elsewhere)
def test_bytes_marks_and_line_endings_survive_an_edit_elsewhere(desk: Any) -> None:
    path = desk.put("a.txt", b"\xef\xbb\xbfone\r\n\xff\xfe raw\r\n\x80\ntwo\r\nthree")
    desk.good("read_file", path="a.txt")
    text = desk.good("edit_file", path="a.txt", old_text="two\nthree", new_text="2\n2a\n3")
    assert path.read_bytes() == b"\xef\xbb\xbfone\r\n\xff\xfe raw\r\n\x80\n2\r\n2a\r\n3"
    assert "\ufffd" in text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_wide_encoding_is_kept(desk: Any, codec: str) -> None:
    mark = "\ufeff".encode(codec)
    path = desk.put("a.txt", mark + "один\r\nдва".encode(codec))
    desk.good("read_file", path="a.txt")
    desk.good("edit_file", path="a.txt", old_text="два", new_text="два\nтри")
    assert path.read_bytes() == mark + "один\r\nдва\r\nтри".encode(codec)


def test_a_file_that_is_no_text_in_its_own_encoding_is_not_edited(desk: Any) -> None:
    path = desk.put("a.txt", b"\xff\xfea\0b")
    desk.good("read_file", path="a.txt")
    assert "not valid UTF-16" in desk.bad("edit_file", path="a.txt", old_text="a", new_text="b")
    assert path.read_bytes() == b"\xff\xfea\0b"


PIECES = st.lists(st.sampled_from([b"a", b"b", b" ", b"\n", b"\r\n", b"\r", b"\xff", b"\xe4", "ж".encode(), b"\xf0\x9f"]), max_size=30)


@settings(max_examples=300, deadline=None)
@given(before=PIECES, after=PIECES, bom=st.booleans())
def test_an_edit_changes_no_byte_but_those_it_replaces(before: list[bytes], after: list[bytes], bom: bool) -> None:
    mark = b"\xef\xbb\xbf" if bom else b""
    data = mark + b"".join(before) + b"<<here>>" + b"".join(after)
    text = Text.of(data)
    assert text.encoded() == data
    edited = replace(text.body, "<<here>>", "x\ny", everywhere=False, newline=text.newline)
    put = b"x" + text.newline.encode() + b"y"
    assert text._replace(body=edited.body).encoded() == mark + b"".join(before) + put + b"".join(after)


@settings(max_examples=300, deadline=None)
@given(body=st.text(st.sampled_from("ab\n\r"), max_size=40), old=st.text(st.sampled_from("ab\n"), min_size=1, max_size=4))
def test_an_edit_and_its_reverse_give_the_text_again_where_endings_are_one(body: str, old: str) -> None:
    body = body.replace("\r\n", "\n").replace("\r", "\n")
    count = len([at for at in range(len(body)) if body.startswith(old, at)])
    if count != 1:
        with pytest.raises(EditError):
            replace(body, old, "!", everywhere=False, newline="\n")
        return
    there = replace(body, old, "!", everywhere=False, newline="\n").body
    assert there.count("!") == 1
    assert replace(there, "!", old, everywhere=False, newline="\n").body == body


def test_the_paths_of_failures_stay_inside(desk: Any, tmp_path: Path) -> None:
    for path in ("/etc/passwd", "../x", "~/x", str(tmp_path), "@home/x", "@home"):
        text = desk.bad("read_file", path=path)
        assert "outside of the folders" in text
        assert str(tmp_path) not in text
        assert "/etc" not in text
