"""`partial_json`: a document that is still being written, as far as it goes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop import partial_json

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("Sure", None),
        ("Sure: {", {}),
        ('{"na', {}),
        ('{"name"', {}),
        ('{"name":', {}),
        ('{"name": "Ro', {"name": "Ro"}),
        ('{"name": "Ro\\', {"name": "Ro"}),
        ('{"name": "Ro\\n', {"name": "Ro\n"}),
        ('{"name": "Ro\\u00', {"name": "Ro"}),
        ('{"name": "Ro\\\\', {"name": "Ro\\"}),
        ('{"name": "\\ud83d', {"name": ""}),
        ('{"name": "\\ud83d\\ude00', {"name": "😀"}),
        ('{"people": 12', {}),
        ('{"people": 12,', {"people": 12}),
        ('{"big": tr', {}),
        ('{"big": true', {"big": True}),
        ('{"a": [1, 2, {"b": "x', {"a": [1, 2, {"b": "x"}]}),
        ('{"a": [1, 2], "b": nonsense, "c": 3}', {"a": [1, 2]}),
        ('[{"a": 1}, {"a"', [{"a": 1}, {}]),
        ('```json\n{"a": 1}\n``` and {"b": 2}', {"a": 1}),
        ('{"a": "line\nbreak', {"a": "line\nbreak"}),
        ('{"a": 1,}', {"a": 1}),
        ("{" * 2, {}),
        ('{"a": 1, "b": NaN, "c": 3}', {"a": 1}),
        ('{"a": 1, "b": -Infinity, "c": 3}', {"a": 1}),
        ('{"a": 1, "b": 1e999, "c": 3}', {"a": 1}),
    ],
)
def test_what_has_come_counts_and_what_may_go_on_does_not(text: str, value: Any) -> None:
    assert partial_json(text) == value


@given(DOCUMENTS.filter(lambda value: isinstance(value, (dict, list))), st.data())
def test_every_beginning_of_a_document_amounts_to_something_and_the_whole_to_itself(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    assert partial_json(text) == value
    cut = data.draw(st.integers(1, len(text)))
    assert type(partial_json(text[:cut])) is type(value)


def test_what_nobody_could_compare_is_shown_as_deep_as_it_may_be() -> None:
    assert partial_json("[" * 6000) == partial_json("[" * 7000) == partial_json("[" * 100)


@given(st.text(alphabet='{}[]",:\\u1ntrue ', max_size=40))
def test_no_text_is_too_strange(text: str) -> None:
    partial_json(text)
