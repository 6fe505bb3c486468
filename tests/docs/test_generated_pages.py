"""What scripts write for the documentation says something about everything that it lists, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import catalogue
import diagrams
import examples_page

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", diagrams.DRAWN)
def test_a_diagram_tells_what_it_is_and_loads_nothing(name: str) -> None:
    drawn = (diagrams.FOLDER / name).read_text(encoding="utf-8")
    picture = ElementTree.fromstring(drawn)
    assert picture.find("{http://www.w3.org/2000/svg}title") is not None, "who cannot see it is told what it is"
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", ""), "it loads nothing"


def test_every_diagram_is_on_a_page() -> None:
    shown = {name for page in diagrams.FOLDER.glob("*.md") for name in re.findall(r"\]\(([\w-]+\.svg)\)", page.read_text("utf-8"))}
    assert shown == set(diagrams.DRAWN) == {path.name for path in diagrams.FOLDER.glob("*.svg")}


def test_a_plain_send_is_drawn_with_two_batches_and_a_round_with_two_more() -> None:
    words = diagrams.send().svg()
    for title in ("a plain send: 2 batches", "one round with a pure tool: 4 batches", "two rounds: 6 batches"):
        assert title in words


# acceptance: 66 (the catalogue)
def test_every_error_has_a_way_out_on_its_page() -> None:
    assert catalogue.missing() == []


def test_every_example_says_what_it_shows_at_a_glance() -> None:
    assert examples_page.wrong() == []


def test_every_guide_is_named_on_the_first_page() -> None:
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in sorted((ROOT / "docs" / "guides").glob("*.md")) if f"(guides/{page.name})" not in first] == []


LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#([\w-]+))?\)")


def anchors(page: Path) -> set[str]:
    """What a heading may be called behind ``#``, as the documentation tool and the forges make it."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_every_link_to_a_page_leads_to_it(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken: list[str] = []
    for path, anchor in LINK.findall(text):
        target = (page.parent / path).resolve()
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []
