"""What scripts write is up to date, and every check that is due is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

import acceptance
import architecture
import generated

# The checks that the package claims to meet by now.
DUE = {
    *range(1, 12), *range(13, 26), *range(28, 42), 45, *range(48, 60), *range(66, 74), *range(77, 80), 81, *range(114, 125),
    *range(128, 133), 134, *range(154, 157), 164, *range(166, 169), 184, 185, 187, 188,
}  # fmt: skip
# Due, and not shown by any test: a debt. It only ever gets shorter.
KNOWN_MISSING: set[int] = set()


def test_every_due_check_is_shown_by_a_test() -> None:
    found = {each.number for each in acceptance.shown()}
    assert sorted(DUE - found - KNOWN_MISSING) == []
    assert sorted(KNOWN_MISSING & found) == [], "these are shown by now: take them out of KNOWN_MISSING"


def test_every_written_file_is_up_to_date() -> None:
    assert [path.name for path in generated.stale()] == [], "run `make map`"


def test_every_file_of_the_package_stands_on_a_floor() -> None:
    assert architecture.unplaced() == []


def test_every_page_is_in_the_navigation(repo: Path) -> None:
    navigation = (repo / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(repo / "docs")) for page in sorted((repo / "docs").rglob("*.md"))]
    assert [page for page in pages if page not in navigation] == []


MARKED = """
# acceptance: 3, 4 (a part)
@pytest.mark.parametrize(
    "x",
    [1, 2],
)
async def test_two(x): ...

class TestIt:
    # acceptance: 5
    def test_three(self): ...
"""


def test_marks_are_read_above_decorators_and_inside_classes() -> None:
    assert list(acceptance.marks(MARKED, "t.py")) == [
        (3, "t.py::test_two", ""),
        (4, "t.py::test_two", "(a part)"),
        (5, "t.py::test_three", ""),
    ]


def test_a_mark_without_a_test_is_refused() -> None:
    with pytest.raises(SystemExit, match="line above a test"):
        list(acceptance.marks("# acceptance: 3\nx = 1\n\ndef test_it(): ...\n", "t.py"))
