"""What the model reads of what a handler gave."""

from __future__ import annotations

import json
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pydantic
import pytest

from power_loop.contracts.results import render_result
from power_loop.contracts.tool import ToolHandlerResult


class Colour(Enum):
    RED = "red"


class Name(StrEnum):
    ADA = "Ada"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


@dataclass
class Order:
    number: int
    colours: list[Colour] = field(default_factory=lambda: [Colour.RED])


class Model(pydantic.BaseModel):
    city: str
    at: datetime


Point = namedtuple("Point", "x y")
NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
TEXT = {"type": "text", "text": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
FILE = {"type": "attachment", "attachment": {"path": "a.pdf"}}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("plain", "plain"),
        ("Error: only a string", "Error: only a string"),
        (Text("own class"), "own class"),
        (None, ""),
        (3, "3"),
        (True, "true"),
        ({"städte": ["Zürich"]}, '{"städte": ["Zürich"]}'),
        ([], "[]"),
        ((1, 2), "[1, 2]"),
        (Point(1, 2), "[1, 2]"),
        (Colour.RED, "red"),
        (Name.ADA, "Ada"),
        (Level.HIGH, "3"),
        (Order(1), '{"number": 1, "colours": ["red"]}'),
        ([Order(1, [])], '[{"number": 1, "colours": []}]'),
        (Model(city="Zürich", at=NOON), '{"city": "Zürich", "at": "2030-01-02T12:00:00Z"}'),
        ({"order": Order(2, []), "model": Model(city="a", at=NOON).city}, '{"order": {"number": 2, "colours": []}, "model": "a"}'),
        (MappingProxyType({"a": OrderedDict(b=1)}), '{"a": {"b": 1}}'),
        ({"ids": {UUID(int=1)}}, '{"ids": ["00000000-0000-0000-0000-000000000001"]}'),
        ({"at": NOON, "price": Decimal("1.50")}, '{"at": "2030-01-02T12:00:00+00:00", "price": "1.50"}'),
        (PurePosixPath("a/b"), '"a/b"'),
        ([TEXT, PICTURE, FILE], [TEXT, PICTURE, FILE]),
        ([TEXT, {"type": "bicycle"}], '[{"type": "text", "text": "hi"}, {"type": "bicycle"}]'),
        ([{"type": "text"}], '[{"type": "text"}]'),
    ],
)
def test_what_a_handler_gives_becomes_text_json_or_blocks(value: Any, content: Any) -> None:
    assert render_result(value) == (content, False, None)


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def broken() -> object:
    class Broken:
        def model_dump(self, mode: str) -> Any:
            raise KeyError("no such field")

    return Broken()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (object, "object"),
        (lambda: b"bytes", "bytes"),
        (lambda: {"a": {"b": 1j}}, "complex"),
        (lambda: {(1, 2): 3}, "tuple"),
        (lambda: (n for n in ()), "generator"),
        (lambda: Order, "type"),
        (circle, "Circular"),
        (broken, "Broken"),
    ],
)
def test_what_has_no_json_is_a_failed_result_that_names_its_type(make: Callable[[], Any], named: str) -> None:
    content, failed, data = render_result(make())
    assert failed
    assert data is None
    assert named in str(content)
    assert str(content).startswith("Error: the tool ran")
    assert len(str(content)) < 200


def test_a_handler_may_say_itself_whether_it_worked() -> None:
    assert render_result(ToolHandlerResult(True, {"a": 1}, {"rows": 3})) == ('{"a": 1}', False, {"rows": 3})
    assert render_result(ToolHandlerResult(False, "no such order")) == ("no such order", True, None)
    assert render_result(ToolHandlerResult(True, [TEXT])) == ([TEXT], False, None)
    assert render_result(ToolHandlerResult(True, object()))[1]


def test_data_beside_the_content_is_always_fit_to_be_recorded() -> None:
    _, failed, data = render_result(ToolHandlerResult(True, "done", {"raw": b"x", "at": NOON, (1, 2): 3, "order": Order(1, [])}))
    assert not failed
    assert data == {"raw": "<bytes>", "at": "2030-01-02T12:00:00+00:00", "order": {"number": 1, "colours": []}}
    _, failed, data = render_result(ToolHandlerResult(True, "done", {"me": circle()}))
    assert not failed
    assert data == {"unreadable": "ValueError: Circular reference detected"}
    assert json.dumps(data)


def test_blocks_are_copied_so_that_a_handler_cannot_change_them_later() -> None:
    blocks = [dict(TEXT)]
    content, _, _ = render_result(blocks)
    blocks[0]["text"] = "changed"
    assert content == [TEXT]
