"""Names of MCP tools: what every provider takes, each once, stable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop.contrib.mcp_names import McpName, names_for

FITS = re.compile(r"[A-Za-z0-9_-]{1,64}")


# acceptance: 65 (names)
@pytest.mark.parametrize(
    ("prefix", "original", "name"),
    [
        ("", "search", "search"),
        ("fs.", "read", "fs_read"),
        ("", "fs.read file/ö", "fs_read_file__"),
        ("a" * 64, "", "a" * 64),
        ("", "漢", "_"),
    ],
)
def test_a_name_is_prefix_and_original_with_other_characters_as_underscores(prefix: str, original: str, name: str) -> None:
    assert names_for([original], prefix) == [name]


def test_a_long_name_is_cut_with_a_hash_so_that_two_stay_two() -> None:
    one, two = names_for(["x" * 80 + "1", "x" * 80 + "2"], "")
    assert len(one) == len(two) == 64
    assert one != two
    assert one[:55] == two[:55] == "x" * 55


def test_names_that_became_alike_are_numbered_and_the_one_that_fitted_keeps_its_own() -> None:
    names = names_for(["a.b", "a b", "a_b"], "")
    assert {name.original: str(name) for name in names} == {"a b": "a_b_2", "a.b": "a_b_3", "a_b": "a_b"}


def test_a_name_that_was_changed_gives_way_to_a_tool_that_is_there() -> None:
    assert names_for(["fs.read"], "", taken={"fs_read"}) == ["fs_read_2"]


def test_a_name_remembers_what_it_was_made_of() -> None:
    (name,) = names_for(["read file"], "fs.")
    assert isinstance(name, McpName)
    assert (name, name.original) == ("fs_read_file", "read file")


# acceptance: 65 (any names)
@given(st.lists(st.text(max_size=80), max_size=8, unique=True), st.text(max_size=70))
def test_any_names_fit_stay_unique_and_do_not_depend_on_the_order(originals: list[str], prefix: str) -> None:
    names = names_for(originals, prefix)
    assert all(FITS.fullmatch(name) for name in names)
    assert len(set(names)) == len(originals)
    assert sorted(name.original for name in names) == sorted(originals)
    assert names_for(reversed(originals), prefix) == names
