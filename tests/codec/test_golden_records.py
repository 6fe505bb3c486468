"""Records as a released version wrote them: every later version reads them, and writes them alike.

`golden/records-v40.jsonl` has a line for each kind and variant: its cells, and the record that they hold. A line
that was released is never edited; what is new gets a new line, a changed kind a new file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from histories import RECORDS

from power_loop.contracts.codec import from_cells, to_cells
from power_loop.contracts.store import Cells

LINES = [json.loads(line) for line in (Path(__file__).parent / "golden" / "records-v40.jsonl").read_text("utf-8").splitlines()]


def cells_of(line: Mapping[str, Any]) -> Cells:
    return Cells(**line["cells"])


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON has it."""
    return json.loads(json.dumps({"record": type(record).__name__, **record._asdict()}, default=asdict))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["what"])
def test_a_released_line_is_read_as_it_was_meant(line: dict[str, Any]) -> None:
    record = from_cells(cells_of(line))
    # A field that the line does not name was added after its release, and then it says what it says where nobody set it.
    assert plain(record) == {**record._field_defaults, **{key: line[key] for key in line if key not in ("what", "cells")}}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["what"])
def test_a_released_line_is_written_again_byte_for_byte(line: dict[str, Any]) -> None:
    assert to_cells(from_cells(cells_of(line))) == cells_of(line)


def test_the_lines_have_every_kind_and_every_field() -> None:
    seen = {line["record"] for line in LINES}
    assert seen == {kind.__name__ for kind in RECORDS}
    for kind in RECORDS:
        lines = [line for line in LINES if line["record"] == kind.__name__]
        for field, value in kind._field_defaults.items():
            default = [] if value == () else value
            assert any(line.get(field, default) != default for line in lines), f"{kind.__name__}.{field}"
