"""What several sinks write alike of an event is written once; each shows what it would have shown alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop import AgentEvent
from power_loop.contrib.redact import Redactor

SECRET = "Bearer " + "t0k" * 8
LIMITS = (20, 500, 2000, None)

# What is shorter than the narrowest limit, longer than it, longer once its secret shows, and not plain JSON.
texts = st.sampled_from(["", "short", "w" * 21, "w" * 501, "w" * 2001, SECRET, f"{SECRET} {'w' * 10}", '"' * 19, "é" * 19])
payloads = st.dictionaries(st.sampled_from("abcd"), texts | st.lists(texts, max_size=60) | st.integers() | st.just({1: "x"}), max_size=4)


def test_a_line_that_is_long_and_has_nothing_to_cut_serves_whoever_allows_more() -> None:
    event = AgentEvent("own", {str(n): "w" * 100 for n in range(30)}, session_id="s")
    first = Redactor(max_field_len=500).shown(event)
    assert len(first) > 2000
    assert Redactor(max_field_len=2000).shown(event) is Redactor(max_field_len=None).shown(event) is first


@given(payload=payloads, limits=st.permutations(LIMITS))
def test_whoever_comes_first_each_shows_what_it_would_have_shown_alone(payload: dict[str, Any], limits: list[int | None]) -> None:
    event = AgentEvent("own", payload, session_id="s", ts=1.5, seq=7)
    for limit in limits:
        alone = AgentEvent("own", payload, session_id="s", ts=1.5, seq=7)
        assert Redactor(max_field_len=limit).shown(event) == Redactor(max_field_len=limit).shown(alone)


@pytest.mark.parametrize("other", [Redactor(redact_values=False), Redactor(redact_keys=()), Redactor(max_items=None)])
def test_who_has_other_rules_writes_its_own(other: Redactor) -> None:
    event = AgentEvent("own", {"password": "p", "says": SECRET, "list": list(range(51))})
    first = Redactor().shown(event)
    assert other.shown(event) != first
