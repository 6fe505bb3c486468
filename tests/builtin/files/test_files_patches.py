"""apply_patch: a patch applies exactly as it says, or nothing is written."""

from __future__ import annotations

import difflib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.tools.builtin.patching import PatchError, apply, read_patch

POEM = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def patched(body: str, patch: str, newline: str = "\n") -> str:
    return apply(body, read_patch(patch, lambda name: name in ("a/f", "b/f", "f")), newline)


# acceptance: 174 (applies exactly)
@pytest.mark.parametrize(
    ("body", "patch", "after"),
    [
        pytest.param("-- a\n++ b\n", "@@ -1,2 +1,2 @@\n--- a\n---- x\n+++ b\n", None, id="wrong counts"),
        pytest.param("-- a\n++ b\nc\n", "@@ -1,3 +1,1 @@\n--- a\n-++ b\n c\n", "c\n", id="takes out lines that look like headers"),
        pytest.param("c\n", "--- a/f\n+++ b/f\n@@ -1 +1,3 @@\n+-- a\n+++ b\n c\n", "-- a\n++ b\nc\n", id="adds such lines"),
        pytest.param("a\n-- f\nc\n", "@@ -1,3 +1,3 @@\n a\n--- f\n+++ f\n c\n", "a\n++ f\nc\n", id="replaces one by the other"),
        pytest.param("a\n\nb\n", "@@ -1,3 +1,3 @@\n a\n\n-b\n+B\n", "a\n\nB\n", id="an empty line is an empty context line"),
        pytest.param("a  \nb\t\n", "@@ -1,2 +1,2 @@\n a\n-b\n+B\n", "a  \nB\n", id="trailing blanks do not count, and stay"),
        pytest.param("a\n", "@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n", "b", id="takes the final newline"),
        pytest.param("a", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n", "b\n", id="gives a final newline"),
        pytest.param("a", "@@ -1 +1,2 @@\n-a\n+b\n+c\n", "b\nc", id="keeps a missing final newline"),
        pytest.param("a\r\nb\r\n", "@@ -1,2 +1,3 @@\n a\n-b\n+B\n+C\n", "a\r\nB\r\nC\r\n", id="keeps the line ending"),
        pytest.param("", "@@ -0,0 +1,2 @@\n+a\n+b\n", "a\nb\n", id="fills an empty file"),
        pytest.param("a\n", "@@ -1 +0,0 @@\n-a\n", "", id="empties a file"),
        pytest.param(POEM, "@@ -2,0 +3 @@\n+new\n", POEM.replace("two\n", "two\nnew\n"), id="adds after a line"),
        pytest.param(
            POEM,
            "@@ -1,2 +1,2 @@\n-one\n+1\n two\n@@ -6,2 +6,2 @@\n six\n-seven\n+7\n",
            POEM.replace("one", "1").replace("seven", "7"),
            id="several hunks",
        ),
        pytest.param(POEM, "@@ -90,2 +90,2 @@\n six\n-seven\n+7\n", POEM.replace("seven", "7"), id="wrong numbers, one place"),
        pytest.param("x\na\nb\ny\na\nb\n", "@@ y\n a\n-b\n+B\n", "x\na\nb\ny\na\nB\n", id="an anchor"),
        pytest.param("x\na\nb\ny\na\nb\n", "@@ -5,2 +5,2 @@ def x\n a\n-b\n+B\n", "x\na\nb\ny\na\nB\n", id="numbers choose between two"),
        pytest.param(
            "def f():\n    pass\n", "@@ def f():\n+    '''Doc.'''\n", "def f():\n    '''Doc.'''\n    pass\n", id="adds after an anchor"
        ),
        pytest.param(
            "a\nb\n", "*** Begin Patch\n*** Update File: f\n@@\n a\n-b\n+c\n*** End Patch\n", "a\nc\n", id="the other common form"
        ),
        pytest.param(
            "a\n",
            "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\t2001\n+++ b/f\t2002\n@@ -1 +1 @@\n-a\n+b\n",
            "b\n",
            id="as git writes it",
        ),
    ],
)
def test_a_patch_applies_exactly(body: str, patch: str, after: str | None) -> None:
    if after is None:
        with pytest.raises(PatchError):
            patched(body, patch)
    else:
        assert patched(body, patch, "\r\n" if "\r\n" in body else "\n") == after


# acceptance: 174 (or fails)
@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("@@ -1,2 +1,2 @@\n one\n-zwei\n+2\n", "no line 'zwei'"),
        ("@@ -1,2 +1,2 @@\n one\n-three\n+3\n", "not one after the other"),
        ("@@ -1,3 +1,3 @@\n one\n-two\n+2\n", "the patch ends"),
        ("@@ -1,2 +1,2 @@\n one\n-two\n+2\n three\n", "comes after the last line"),
        ("@@ -1,1 +1,2 @@\n one\n-two\n+2\n", "one old line too many"),
        ("@@ -1,2 +1,2 @@\n one\n*two\n", "begins with none of"),
        ("@@ -1,2 @@\n one\n", "malformed header"),
        ("--- a/other\n+++ b/other\n@@ -1 +1 @@\n-one\n+1\n", "another file"),
        ("--- a/f\n+++ b/other\n@@ -1 +1 @@\n-one\n+1\n", "another file"),
        ("@@ -1 +1 @@\n-one\n+1\n--- a/other\n+++ b/other\n@@ -1 +1 @@\n-x\n+y\n", "another file"),
        ("--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n", "neither creates nor deletes"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", "neither creates nor deletes"),
        ("*** Delete File: f\n", "use another tool"),
        ("rename from f\nrename to g\n", "use another tool"),
        ("one\n", "belongs to nothing"),
        ("", "has no hunk"),
        ("@@ -5,2 +5,2 @@\n five\n-six\n+6\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "hunk 2"),
        ("@@ -1,2 +1,2 @@\n one\n-two\n+2\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n", "hunk 2"),
        ("@@ nowhere\n one\n-two\n+2\n", "no line reads 'nowhere'"),
        ("@@\n+new\n", "its place is not clear"),
        ("@@ -99,0 +99 @@\n+new\n", "there are 7 lines"),
        ("@@ -1 +1 @@\n-one\n+1\n\\ No newline at end of file\n", "the file goes on"),
        ("@@ -7 +7 @@\n-seven\n\\ No newline at end of file\n+7\n", "has no final newline, but"),
        ("\\ No newline at end of file\n", "belongs to nothing"),
    ],
)
def test_a_patch_that_does_not_fit_says_why(patch: str, why: str) -> None:
    with pytest.raises(PatchError, match=re.escape(why)):
        patched(POEM, patch)


@pytest.mark.parametrize("header", ["@@ -90,2 +90,2 @@", "@@", "@@ x"])
def test_a_place_that_is_not_the_only_one_is_not_guessed(header: str) -> None:
    with pytest.raises(PatchError, match="fits in several places"):
        patched("x\na\nb\nx\na\nb\n", f"{header}\n a\n-b\n+B\n")


# acceptance: 174 (nothing written)
def test_all_hunks_apply_or_nothing_is_written(desk: Any) -> None:
    path = desk.put("f", POEM)
    desk.good("read_file", path="f")
    half = "@@ -1 +1 @@\n-one\n+1\n@@ -5 +5 @@\n-fünf\n+5\n"
    assert "Nothing was written" in desk.bad("apply_patch", path="f", patch=half)
    assert path.read_text() == POEM


# acceptance: 174 (another file)
@pytest.mark.parametrize("named", ["g", "a/g", "sub/f", "/etc/passwd", "../f", "a/sub/f"])
def test_a_patch_for_another_file_is_refused(desk: Any, named: str) -> None:
    path = desk.put("f", POEM)
    desk.good("read_file", path="f")
    patch = f"--- {named}\n+++ {named}\n@@ -1 +1 @@\n-one\n+1\n"
    assert "names another file" in desk.bad("apply_patch", path="f", patch=patch)
    assert path.read_text() == POEM


@pytest.mark.parametrize("named", ["f", "a/f", "b/f", "@workspace/f", "./f"])
def test_a_patch_may_name_its_file_as_git_does(desk: Any, named: str) -> None:
    desk.put("f", POEM)
    desk.good("read_file", path="f")
    text = desk.good("apply_patch", path="f", patch=f"--- {named}\n+++ {named}\n@@ -1 +1 @@\n-one\n+1\n")
    assert text == "patched f: 1 hunk, 1 lines added, 1 taken out"


def test_a_patch_neither_makes_a_file_nor_applies_twice(desk: Any) -> None:
    patch = "@@ -1 +1,2 @@\n-one\n+1\n+1a\n"
    assert "no such file" in desk.bad("apply_patch", path="f", patch="@@ -0,0 +1 @@\n+x\n")
    path = desk.put("f", POEM)
    desk.good("read_file", path="f")
    desk.good("apply_patch", path="f", patch=patch)
    once = path.read_text()
    assert "does not fit" in desk.bad("apply_patch", path="f", patch=patch)
    assert "changes nothing" in desk.bad("apply_patch", path="f", patch="@@ -1 +1 @@\n-1\n+1\n")
    assert path.read_text() == once


def test_bytes_that_are_no_text_survive_a_patch_beside_them(desk: Any) -> None:
    path = desk.put("f", b"\xef\xbb\xbf\xff\xfe\r\nb\r\nmixed\nend")
    desk.good("read_file", path="f")
    desk.good("apply_patch", path="f", patch="@@ -2 +2,2 @@\n-b\n+B\n+C\n")
    assert path.read_bytes() == b"\xef\xbb\xbf\xff\xfe\r\nB\r\nC\r\nmixed\nend"


LINES = st.lists(st.sampled_from(["", "a", "b", "- a", "-- a", "++ b", "+", "@@ -1 +1 @@", " ", "a "]), max_size=12)


def text_of(lines: list[str], ended: bool) -> str:
    text = "".join(line + "\n" for line in lines)
    return text if ended else text.removesuffix("\n")


def diff(old: str, new: str, context: int) -> str:
    """A unified diff as other programs write it, missing final newlines marked."""
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/f", "b/f", n=context)
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


@settings(max_examples=500, deadline=None)
@given(old=LINES, new=LINES, old_ended=st.booleans(), new_ended=st.booleans(), context=st.integers(0, 3))
def test_the_diff_of_two_texts_makes_one_into_the_other(
    old: list[str], new: list[str], old_ended: bool, new_ended: bool, context: int
) -> None:
    before, after = text_of(old, old_ended), text_of(new, new_ended)
    patch = diff(before, after, context)
    if patch:
        assert patched(before, patch) == after


@settings(max_examples=300, deadline=None)
@given(old=LINES, new=LINES, at=st.integers(0, 60), by=st.sampled_from(["", "x", "-", "+", " ", "@", "\n", "9"]))
def test_a_damaged_patch_applies_or_is_refused_and_nothing_else(old: list[str], new: list[str], at: int, by: str) -> None:
    before = text_of(old, True)
    patch = diff(before, text_of(new, True), 1)
    try:
        after = patched(before, patch[:at] + by + patch[at + 1 :])
    except PatchError:
        return
    assert after == before or patch


@settings(max_examples=300, deadline=None)
@given(patch=st.text(st.sampled_from("@-+ ,0123ab\n\\"), max_size=80))
def test_what_is_no_patch_is_refused(patch: str) -> None:
    try:
        patched("a\nb\n", patch)
    except PatchError:
        pass
