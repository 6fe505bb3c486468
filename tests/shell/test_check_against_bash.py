"""The check reads words as bash does: what it makes of them is held against what a real bash makes of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power_loop.tools.shell.check import argv_of, check_command
from power_loop.tools.shell.exchange import quoted
from power_loop.tools.shell.expand import Scope
from power_loop.tools.shell.parse import parse
from power_loop.tools.shell.words import Simple

PIECES = [
    *("a", "b/c", "-rf", "/", ".", "~/", "~/x", "$X", "${X}", "$Y/z", "${X:-d}", "${Z:-d e}", "${Z:=q}", "${X%/}", "\\ ", "\\\\", "\\$"),
    *("\\\n", "''", "'a b'", "'\\'", '""', '"a b"', '"$X"', '"\\$X"', '"\\a"', '"`echo hi`"', "$(echo hi)", "`echo a b`"),
    *("$(echo 'x y')", '"$(echo "q r")"', "$'a\\tb'", "$'\\x41\\102'", "{a,b}", "{a,b{c,d}}x", "{a}", "{}", "a#", "=", "a=b", "%", "^"),
    *("!", "]", '"\'"', "'\"'", " ", "  "),
]
SCOPE_VALUES = {"X": ["/some/x"], "Y": ["y"], "HOME": ["/the/home"]}
WORDS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)


def as_bash_splits(words: list[str]) -> list[list[str]]:
    """What bash makes of each, in one process."""
    lines = ["X=/some/x; Y=y; HOME=/the/home; set -f"]
    lines += [f"unset Z; show {word}\n" for word in words]
    program = "show() { for each; do printf '%s\\0' \"$each\"; done; printf '\\1\\0'; }\n" + "\n".join(lines)
    done = subprocess.run(["/bin/bash", "--norc", "--noprofile", "-c", program], capture_output=True, check=True)
    fields = done.stdout.decode().split("\0")[:-1]
    answers: list[list[str]] = [[]]
    for field in fields:
        if field == "\1":
            answers.append([])
        else:
            answers[-1].append(field)
    return answers[:-1]


def as_the_check_splits(word: str) -> list[str]:
    scope = Scope("/the/home", "", None)
    scope.variables |= SCOPE_VALUES
    commands = parse(f"show {word}")
    assert len(commands) == 1, (word, commands)
    command = commands[0]
    assert isinstance(command, Simple)
    return [field.text for field in argv_of(command, scope)[1:]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(WORDS, min_size=20, max_size=20))
def test_words_are_split_as_bash_splits_them(words: list[str]) -> None:
    """Every field that bash makes is among ours: alternatives may add some, and none is missed."""
    for word, theirs in zip(words, as_bash_splits(words), strict=True):
        ours = [re.compile(re.escape(field).replace("\0", ".*"), re.DOTALL) for field in as_the_check_splits(word)]
        assert all(any(field.fullmatch(their) for field in ours) for their in theirs if their), (word, theirs, ours)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="ab'\"$(){}[]<>|&;`\\ \n/=!#*?~-1", max_size=60))
def test_no_text_makes_the_check_fail(text: str) -> None:
    check_command(text)
    check_command(f"bash -c {quoted(text)}")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_quoted_text_reaches_a_shell_as_it_is(text: str) -> None:
    done = subprocess.run(["/bin/bash", "-c", f"printf %s {quoted(text)}"], capture_output=True, check=True, cwd=Path("/"))
    assert done.stdout.decode() == text
