"""Which test shows which acceptance check: reads ``# acceptance: N`` above tests, writes the names into docs/acceptance.md.

``# acceptance: 12, 18 (no fold yet)`` names several checks, and in brackets how far the test goes.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "acceptance.md"

ONE = r"(\d+)( \([^()]+\))?"
MARK = re.compile(rf"# acceptance: {ONE}(?:, {ONE})*")
CHECK = re.compile(r"^\*\*(?P<number>\d+)\.\*\* ")
NOT_YET = "- *not yet shown*"


class Shown(NamedTuple):
    """A test that shows a check."""

    number: int
    test: str
    """``tests/house/test_errors.py::test_name``"""
    part: str


def marked_files() -> Iterator[Path]:
    """Tests, and the suites that the package ships for others to run."""
    yield from sorted((ROOT / "tests").rglob("*.py"))
    yield from sorted((ROOT / "src" / "power_loop" / "testing").rglob("*.py"))


def marks(text: str, path: str) -> Iterator[Shown]:
    """What the marks of one file say. A mark without a test right below it is an error."""
    tests = {first_line(node): node.name for node in ast.walk(ast.parse(text)) if is_test(node)}
    comments = {
        token.start[0]: token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    }
    for line, comment in comments.items():
        if not comment.startswith("# acceptance"):
            continue
        below = line + 1
        while below in comments:
            below += 1
        found = MARK.fullmatch(comment)
        if found is None or below not in tests:
            raise SystemExit(f"{path}:{line}: write `# acceptance: N, M (part)` on the line above a test, not {comment!r}")
        for number, part in re.findall(ONE, comment.removeprefix("# acceptance: ")):
            yield Shown(int(number), f"{path}::{tests[below]}", part.strip())


def is_test(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")


def first_line(test: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([test.lineno, *(decorator.lineno for decorator in test.decorator_list)])


def shown() -> list[Shown]:
    """Every mark of the repository, in order of files and lines."""
    return [each for file in marked_files() for each in marks(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT)))]


def renewed(page: str, found: list[Shown]) -> str:
    """``page`` with the tests below each claim as ``found`` says."""
    lines: list[str] = []
    for line in page.splitlines():
        if line.startswith("- "):
            continue
        if line == "" and lines[-1:] == [""]:
            continue
        lines.append(line)
        if check := CHECK.match(line):
            tests = [f"- `{each.test}` {each.part}".rstrip() for each in found if each.number == int(check["number"])]
            lines += ["", *(tests or [NOT_YET])]
    return "\n".join(lines).rstrip() + "\n"


def files() -> dict[Path, str]:
    return {PAGE: renewed(PAGE.read_text(encoding="utf-8"), shown())}
