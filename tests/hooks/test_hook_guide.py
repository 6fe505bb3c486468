"""The tables of the guides say what the code says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from power_loop.contracts.hook_contexts import CONTEXTS
from power_loop.contracts.hooks import HONOURED, BaseHookCtx, HookDirective
from power_loop.contracts.payloads import PAYLOADS, STATUS_PAYLOADS

Row = tuple[str, ...]


def table(page: Path, head: str) -> list[Row]:
    """The rows of the table whose first column is ``head``, without their last column, which is prose."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {head} |")) + 2
    end = next(n for n, line in enumerate([*lines[start:], ""]) if not line.startswith("|"))
    return [tuple(cell.strip(" `") for cell in line.strip("|").split(" | ")[:-1]) for line in lines[start : start + end]]


def names(thing: type) -> list[str]:
    return [each.name for each in dataclasses.fields(thing)]


def test_the_points_are_documented_as_they_are(repo: Path) -> None:
    common = set(names(BaseHookCtx))
    expected = [
        (
            str(point),
            chosen.__name__,
            ", ".join(name for name in names(chosen) if name not in common),
            ", ".join(each.name for each in HookDirective if each in HONOURED[point]) or "–",
        )
        for point, chosen in CONTEXTS.items()
    ]
    assert table(repo / "docs" / "guides" / "hooks.md", "point") == expected


@pytest.mark.parametrize(("head", "payloads"), [("type", PAYLOADS), ("kind", STATUS_PAYLOADS)], ids=["type", "kind"])
def test_the_payloads_are_documented_as_they_are(repo: Path, head: str, payloads: dict[str, type]) -> None:
    expected = [(str(key), payload.__name__, ", ".join(names(payload))) for key, payload in payloads.items()]
    assert table(repo / "docs" / "guides" / "events.md", head) == expected
