"""The house rules that a machine can read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FUNCTION_LINES = 60
FILE_LINES = 400
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
SILENCED = re.compile(r"#\s*(?:type:\s*ignore|pyright:\s*ignore|noqa)(?:\[[\w, -]+\]|: ?[A-Z]+\d+(?:, ?[A-Z]+\d+)*)?")

# What no file of the repository may hold. Written so that no pattern finds itself.
FORBIDDEN = {
    "a path of one machine": re.compile(
        r"(?<![\w./~-])/(?:work|farm|root|home/\w+|Users/\w+)/|/tmp/(?:bash_jobs|brief|research|peer|house)"
    ),
    "a registry's host": re.compile(
        r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(?:org|com)|npm[m]irror|deb\.debian[.]org|proxy\.golang[.]org"
    ),
    "a secret": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]+PRIVATE KEY"),
}
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site", "build", "dist"}
VISIBLE_DOT_NAMES = {".ci", ".editorconfig", ".gitignore"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_a_function_does_not_outgrow_a_screen(sources: list[Any]) -> None:
    long = [
        f"{source.path}:{function.lineno} {function.name} has {lines} lines"
        for source in sources
        for function in functions(source.tree)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_a_file_holds_one_thought(sources: list[Any]) -> None:
    long = [f"{source.path}: {lines} lines" for source in sources if (lines := source.text.count("\n")) > FILE_LINES]
    assert not long, "\n".join(long)


def test_a_file_begins_with_what_it_is_for(sources: list[Any]) -> None:
    silent = [source.path for source in sources if source.text.strip() and not ast.get_docstring(source.tree)]
    assert not silent


def test_no_failure_is_swallowed(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and catches_all(node) and all(isinstance(each, ast.Pass) for each in node.body)
    ]
    assert not wrong


def catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")


def test_who_catches_everything_says_whose_code_it_guards(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and catches_all(node)
        and not raises_again(node)
        and "#" not in near(source.text, node.lineno)
    ]
    assert not wrong, "a comment beside `except Exception` names the foreign code that is called"


def raises_again(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def near(text: str, lineno: int) -> str:
    """The line and the one below it, where the reason may stand."""
    return "\n".join(text.splitlines()[lineno - 1 : lineno + 1])


def test_nothing_is_left_for_later(sources: list[Any]) -> None:
    found = [f"{source.path}:{n} {line.strip()}" for source in sources for n, line in lines_of(source.text) if UNFINISHED.search(line)]
    assert not found, "\n".join(found)


def test_a_silenced_check_gives_its_reason(sources: list[Any]) -> None:
    found = [
        f"{source.path}:{n} {line.strip()}"
        for source in sources
        for n, line in lines_of(source.text)
        if (silenced := SILENCED.search(line)) and len(line[silenced.end() :].strip(" #:-")) < 10
    ]
    assert not found, "\n".join(found)


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.splitlines(), 1)


def test_only_the_command_line_prints(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources
        if source.room not in ("cli", "__main__") and not source.path.endswith("__main__.py")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong


def repository_files(repo: Path) -> Iterator[Path]:
    """All text that a clone would hold: what tools leave behind is skipped by name."""
    for path in sorted(repo.rglob("*")):
        parts = path.relative_to(repo).parts
        hidden = any(part.startswith(".") and part not in VISIBLE_DOT_NAMES for part in parts)
        if path.is_file() and not hidden and not SKIPPED_FOLDERS & set(parts):
            yield path


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str, repo: Path) -> None:
    found = [
        f"{path.relative_to(repo)}:{n}"
        for path in repository_files(repo)
        for n, line in lines_of(path.read_text(encoding="utf-8", errors="replace"))
        if FORBIDDEN[what].search(line)
    ]
    assert not found, f"{what} stands in: {', '.join(found)}"


def test_the_patterns_above_find_what_they_look_for() -> None:
    slash = "/"
    for what, text in [
        ("a path of one machine", f"see {slash}home{slash}jo{slash}x"),
        ("a path of one machine", f"'{slash}root{slash}x'"),
        ("a registry's host", "https://" + "py" + "pi.org/simple"),
        ("a secret", "sk" + "-" + "a" * 24),
        ("a secret", "-" * 5 + "BEGIN RSA PRIVATE KEY"),
    ]:
        assert FORBIDDEN[what].search(text), text


def test_ci_runs_the_test_command_and_nothing_more(repo: Path) -> None:
    script = (repo / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', "CI=1 make test"]
    assert (repo / ".ci" / "run").stat().st_mode & 0o111
