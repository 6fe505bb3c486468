"""What the pages say of shells."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import power_loop.tools.shell.backend as backend
from power_loop import BubblewrapShellBackend, LocalShellBackend, ShellBackend


# acceptance: 44 (no boundary), 113 (shell)
def test_every_page_that_offers_a_local_shell_says_that_it_is_no_boundary(repo: Path) -> None:
    pages = [repo / "README.md", *(repo / "docs").rglob("*.md")]
    offers = [page for page in pages if re.search(r"LocalShellBackend\(|tool `bash`", page.read_text(encoding="utf-8"))]
    assert offers
    for page in offers:
        assert re.search(r"\bno (security )?boundary", page.read_text(encoding="utf-8"), re.IGNORECASE), page
    for text in (LocalShellBackend.__doc__, backend.__doc__):
        assert "o boundary" in (text or "")


def test_every_section_on_the_check_says_that_it_is_no_boundary(repo: Path) -> None:
    page = (repo / "docs" / "guides" / "shell.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        if re.search("check|local backend|On this machine", section, re.IGNORECASE):
            assert re.search(r"\bno boundary|is a boundary", section), section[:80]


@pytest.mark.parametrize("made", [LocalShellBackend(), BubblewrapShellBackend()])
def test_what_comes_along_is_a_backend(made: object) -> None:
    assert isinstance(made, ShellBackend)
