"""JSON is written as the standard library writes it, whichever way it is set up."""

from __future__ import annotations

import json
from datetime import date
from json import encoder

import pytest

from power_loop.contracts.json_text import writer

RING: list[object] = []
RING.append(RING)
DEEP: object = None
for _ in range(100_000):
    DEEP = [DEEP]

VALUES = [
    "plain", 'quo"te\n\x00', "\ud800 é €", "", 0, -7, 1.5, 1e300, float("nan"), float("-inf"), True, None, [], {}, (1, (2,)),
    {"b": 1, "a": [None, {"é": ""}]}, {1: "a", None: "b", False: "c", 1.5: "d"}, {"day": date(2024, 2, 29)}, {(1, 2): 3}, {1, 2},
    RING, {"in": RING}, DEEP, type("Text", (str,), {})("sub"),
]  # fmt: skip
SETTINGS = [
    {},
    {"ascii_only": True},
    {"sort_keys": True},
    {"sort_keys": True, "default": str},
    {"default": lambda value: [value]},
]


def outcome(encode, value: object) -> object:
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return type(error), str(error) if not isinstance(error, RecursionError) else ""


@pytest.mark.parametrize("without_c", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "ascii", "sorted", "sorted-else-text", "else-a-list"])
def test_every_value_has_the_text_or_the_error_that_the_standard_encoder_gives(settings, without_c, monkeypatch):
    theirs = {"ensure_ascii": settings.get("ascii_only", False), "separators": (",", ":")}
    theirs |= {name: value for name, value in settings.items() if name != "ascii_only"}
    expected = [outcome(json.JSONEncoder(**theirs).encode, value) for value in VALUES]
    if without_c:
        monkeypatch.setattr(encoder, "c_make_encoder", None)
        expected = [outcome(json.JSONEncoder(**theirs).encode, value) for value in VALUES]
    encode = writer(**settings)
    assert [outcome(encode, value) for value in VALUES] == expected
    assert [outcome(encode, value) for value in VALUES] == expected  # nothing is left of the values before


def test_a_value_without_json_is_refused_by_name():
    with pytest.raises(TypeError, match="Object of type date is not JSON serializable"):
        writer()([date(2024, 2, 29)])
