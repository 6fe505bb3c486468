"""glob and grep: what is found, in which order, and the same with ripgrep as without."""

from __future__ import annotations

import os
import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.tool import ToolRun
from power_loop.tools.builtin import search, search_helpers
from power_loop.tools.builtin.search_helpers import Matcher, TookTooLong, worth_a_look
from power_loop.tools.builtin.search_lines import Wanted, numbered_lines
from power_loop.tools.builtin.search_walk import Pattern
from power_loop.tools.env import RuntimeEnv


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["a.py", "src/b.py", "src/deep/er/c.py"]),
        ("src/*.py", ["src/b.py"]),
        ("src/**", ["src/b.py", "src/b.txt", "src/deep/er/c.py"]),
        ("src/**/*.py", ["src/b.py", "src/deep/er/c.py"]),
        ("**/er/**/*.py", ["src/deep/er/c.py"]),
        ("./*.py", ["a.py"]),
        ("*.{py,txt}", ["a.py", "src/b.py", "src/b.txt", "src/deep/er/c.py"]),
        ("{src,nix}/[ab].?y", ["src/b.py"]),
        ("[!a].py", ["src/b.py", "src/deep/er/c.py"]),
        ("@workspace/src/*.txt", ["src/b.txt"]),
        (".env", [".env"]),
        (".e*", [".env"]),
        (".github/**", [".github/x.py"]),
        ("build/*.py", ["build/out.py"]),
        ("node_modules/**/*.py", ["node_modules/n.py"]),
        ("nothing*", []),
    ],
)
def test_a_pattern_means_what_shells_mean(desk: Any, pattern: str, found: list[str]) -> None:
    for name in (
        "a.py",
        "src/b.py",
        "src/b.txt",
        "src/deep/er/c.py",
        ".env",
        ".github/x.py",
        "build/out.py",
        "node_modules/n.py",
        ".git/g.py",
    ):
        desk.put(name, "x")
    assert desk.names(pattern) == found


def test_hidden_and_made_files_are_passed_over_unless_asked_for_or_named(desk: Any, searcher: str) -> None:
    for name in (".hidden/a", "vendor/a", "__pycache__/a", ".venv/a", "build", "seen/a"):
        desk.put(name, "needle")
    assert desk.names("**") == ["build", "seen/a"]
    assert desk.names("**", include_hidden=True) == [".hidden/a", "build", "seen/a"]
    assert desk.names("a", path="vendor") == ["vendor/a"]
    assert desk.good("grep", pattern="needle").split("\n") == ["build:1:needle", "seen/a:1:needle"]
    assert desk.good("grep", pattern="needle", include_hidden=True).split("\n")[0] == ".hidden/a:1:needle"
    assert desk.good("grep", pattern="needle", include="vendor/*") == "vendor/a:1:needle"
    assert desk.good("grep", pattern="needle", path=".venv") == ".venv/a:1:needle"


def test_the_newest_files_come_first_and_the_rest_is_counted(desk: Any) -> None:
    for n in range(120):
        os.utime(desk.put(f"f{n:03}", ""), (n, n))
    found = desk.good("glob", pattern="f*").split("\n")
    assert (found[0], found[99], found[100]) == ("f119", "f020", "[20 more files match: narrow the pattern or the path]")
    assert desk.registry.validate("glob", {"pattern": "f*", "max_results": 501}) is not None


def test_matching_lines_come_by_path_and_the_cut_is_told(desk: Any, searcher: str) -> None:
    for n in range(30):
        desk.put(f"f{n:02}", "hit\nmiss\nhit\n")
    found = desk.good("grep", pattern="hit").split("\n")
    assert (found[0], found[1], found[49]) == ("f00:1:hit", "f00:3:hit", "f24:3:hit")
    assert found[50:] == ["[more than 50 lines match: narrow the pattern, the path or include]"]
    assert len(desk.good("grep", pattern="hit", max_results=60).split("\n")) == 60


def test_grep_takes_text_as_it_is_when_told_so(desk: Any, searcher: str) -> None:
    desk.put("a.txt", "a.b\naxb\nA.B\n")
    assert desk.good("grep", pattern="a.b").split("\n") == ["a.txt:1:a.b", "a.txt:2:axb"]
    assert desk.good("grep", pattern="a.b", literal=True) == "a.txt:1:a.b"
    assert desk.good("grep", pattern="a.b", literal=True, case_sensitive=False).split("\n") == ["a.txt:1:a.b", "a.txt:3:A.B"]
    assert desk.good("grep", pattern="x", path="a.txt", include="*.none") == "a.txt:2:axb"
    assert "no regular expression" in desk.bad("grep", pattern="(")
    assert "holds a NUL character" in desk.bad("grep", pattern="a\0")


# acceptance: 173 (invalid bytes do not hide a file)
def test_a_file_with_invalid_bytes_is_searched(desk: Any, searcher: str) -> None:
    desk.put("a.txt", b"\xff\xfe\xfa rubbish? no: text\nneedle \x80\n")
    desk.put("b.txt", b"\x80 needle\r\n")
    desk.put("late", b"x" * 9000 + b"\0\nneedle\n")
    desk.put("binary", b"needle\0")
    assert desk.good("grep", pattern="needle$|needle .").split("\n") == ["b.txt:1:\ufffd needle", "late:2:needle"]


def test_a_long_line_is_shown_around_its_match(desk: Any, searcher: str) -> None:
    desk.put("min.js", "x" * 5000 + "needle" + "y" * 5000)
    text = desk.good("grep", pattern="needle")
    assert "needle" in text
    assert len(text) < 600


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.binary(max_size=12).map(lambda data: bytes(b"ab \n\r.\x1c\x80\xe9K"[each % 10] for each in data)), min_size=1, max_size=6
    ),
    pattern=st.sampled_from(
        ["a", "a.b", "^a", "b$", "a\\sb", "a*b", "(?:a|b){2}", "[a-b]+ ", "\\bb", "[^a]b", "K", "a|\\.", "\\w\\W", "b\\."]
    ),
    literal=st.booleans(),
    case_sensitive=st.booleans(),
)
def test_ripgrep_changes_no_result(desk: Any, files: list[bytes], pattern: str, literal: bool, case_sensitive: bool) -> None:
    """The files that it leaves out hold no match, whatever is in them."""
    for old in desk.workspace.iterdir():
        old.unlink()
    for n, data in enumerate(files):
        desk.put(f"f{n}", data)
    wanted = Wanted(pattern, literal, case_sensitive)
    worthy = worth_a_look(RuntimeEnv(desk.workspace).place("."), wanted, Pattern("**"), hidden=False, timeout_s=30)
    if worthy is None:
        pytest.skip("no ripgrep here")
    expression = wanted.compiled()
    for n, data in enumerate(files):
        lines = data.decode("utf-8", "replace").split("\n")
        lines = lines[:-1] if not lines[-1] else lines
        assert f"f{n}" in worthy or not any(expression.search(line.removesuffix("\r")) for line in lines)


def test_ripgrep_is_asked_where_it_can_say_and_not_where_it_might_differ(desk: Any) -> None:
    if worth_a_look(RuntimeEnv(desk.workspace).place("."), Wanted("a"), Pattern("**"), hidden=False, timeout_s=30) is None:
        pytest.skip("no ripgrep here")
    place = RuntimeEnv(desk.workspace).place(".")

    def asks(pattern: str, literal: bool = False) -> bool:
        return worth_a_look(place, Wanted(pattern, literal), Pattern("**"), hidden=False, timeout_s=30) is not None

    assert all(map(asks, [r"def \w+\(", "a|b", "[A-Z][a-z]*", r"^\s+x{2,3}$", "(?:ab)+?", r"\.py\b"]))
    assert not any(map(asks, ["(?=a)", r"(a)\1", "(?i)a", "a++", r"\Aa", "[[:alpha:]]", "[a&&b]", "ж", r"\x41"]))
    assert all(asks(text, True) for text in ["a b", "a.b(", "[x]", "a\tb", "a-b", "{}", "\\"])


# acceptance: 172 (an expression without end)
def test_an_expression_that_would_take_for_ever_is_ended(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "GREP_TIMEOUT_S", 1.0)
    desk.put("a", "hit a!\n")
    desk.put("b", "a" * 64 + "!\n")
    desk.put("c", "hit a!\n")
    text = desk.good("grep", pattern=r"hit|(a|aa)+\Z")
    assert text.split("\n")[0] == "a:1:hit a!"
    assert "stopped after" in text.split("\n")[1]


def test_a_search_that_is_cancelled_ends_its_helper(desk: Any) -> None:
    desk.put("b", "a" * 64 + "!\n")
    token = CancellationToken()
    matcher = Matcher(Wanted(r"(a|aa)+\Z"), until=float("inf"), now=lambda: 0.0)
    assert matcher._child is not None
    token.on_cancel(lambda reason: matcher.end())
    token.cancel()
    with (desk.workspace / "b").open("rb") as file, pytest.raises(TookTooLong):
        matcher.lines(file.fileno(), 10)
    matcher.close()
    ok, text = desk.call("grep", pattern="(a|aa)+$", run=ToolRun(session_id="s", cancel=token))
    assert (ok, text) == (False, "the search was cancelled")


def test_without_a_child_process_the_lines_are_the_same(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        desk.put(f"f{n}", "x1\nyy\nx22\nж3\n")
    here = desk.good("grep", pattern=r"\w\d+")
    monkeypatch.setattr(search_helpers.Child, "started", lambda wanted: None)
    assert desk.good("grep", pattern=r"\w\d+") == here
    assert here.count("\n") == 14


def test_a_pattern_that_leads_elsewhere_or_explodes_is_refused(desk: Any) -> None:
    assert "'..'" in desk.bad("glob", pattern="../*")
    assert "'..'" in desk.bad("glob", pattern="a/{..,b}/c")
    assert "'..'" in desk.bad("grep", pattern="x", include="../*")
    assert "more than 100" in desk.bad("glob", pattern="{a,b}" * 10)
    assert "outside" in desk.bad("glob", pattern="/etc/*")
    assert "outside" in desk.bad("glob", pattern="~/*")
    assert "no folder" in desk.bad("glob", pattern="*", path=desk.put("file", "").name)


names = st.text(st.sampled_from("ab."), min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))


@settings(max_examples=200, deadline=None)
@given(
    path=st.lists(names, min_size=1, max_size=4),
    pattern=st.lists(st.sampled_from(["**", "*", "a*", "?", "b", "*.b"]), min_size=1, max_size=4),
)
def test_patterns_match_like_the_expressions_they_stand_for(path: list[str], pattern: list[str]) -> None:
    expression = ""
    for at, part in enumerate(pattern):
        last = at == len(pattern) - 1
        if part == "**":
            expression += "(?:[^/]+/)*" + ("[^/]+" if last else "")
        else:
            expression += re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + ("" if last else "/")
    text = Pattern("./" + "/".join(pattern))
    states = text.start
    for name in path:
        states, _ = text.step(states, name)
    assert text.is_file(states) == (re.fullmatch(expression, "/".join(path)) is not None)


def test_a_pattern_with_many_stars_takes_no_longer(desk: Any) -> None:
    desk.put("a" * 200, "")
    assert desk.names("*a" * 60 + "b") == []


def test_a_thousand_files_are_searched_in_one_go(desk: Any, searcher: str) -> None:
    chance = random.Random(7)
    wanted = set()
    for n in range(1000):
        if hit := chance.random() < 0.02:
            wanted.add(f"d{n % 10}/f{n:04}:2:x42")
        desk.put(f"d{n % 10}/f{n:04}", "a\nx42\n" if hit else "a\nxy\n")
    assert set(desk.good("grep", pattern=r"x\d+").split("\n")) == wanted


@settings(max_examples=200, deadline=None)
@given(
    chunks=st.lists(st.text(st.sampled_from("ab\n\r"), max_size=12).map(str.encode), max_size=6),
    needle=st.sampled_from([b"a", b"ab", b"bb"]),
)
def test_lines_that_are_passed_over_are_counted_all_the_same(chunks: list[bytes], needle: bytes) -> None:
    every = [(number, line) for number, line in numbered_lines(iter(chunks)) if needle in line]
    assert [(number, line) for number, line in numbered_lines(iter(chunks), needle) if needle in line] == every
