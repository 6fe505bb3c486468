"""Copies for handlers: as `copy.deepcopy` makes them, however deep what a model said is nested."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from power_loop.contracts.copies import copied

SAID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(date(2026, 1, 1)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


def parts(value: Any) -> list[int]:
    """The identities of all that could be changed in ``value``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [id(value)] * isinstance(value, (dict, list)) + [part for each in inner for part in parts(each)]


@given(SAID)
def test_a_copy_says_the_same_and_shares_nothing_that_changes(value: Any) -> None:
    mine = copied(value)
    assert (mine, type(mine)) == (value, type(value))
    assert not set(parts(mine)) & set(parts(value))


def test_what_stands_in_two_places_or_in_itself_does_so_in_the_copy() -> None:
    once: list[Any] = [1]
    mine = copied({"a": once, "b": {"c": once}, "d": OrderedDict(e=[2])})
    assert mine["a"] is mine["b"]["c"]
    assert (mine["a"], type(mine["d"])) == ([1], OrderedDict)
    once.append(once)
    again = copied(once)
    assert again[1] is again
    assert again is not once


def test_no_nesting_is_too_deep() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = {"in": [deep]}
    mine, levels = copied(deep), 0
    while isinstance(mine, dict):
        mine, levels = mine["in"][0], levels + 1
    assert (mine, levels) == ("end", 100_000)
