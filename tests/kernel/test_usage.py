"""What calls cost: sums, limits, prices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from histories import usages
from hypothesis import given

from power_loop.contracts.usage import NO_USAGE, CallUsage, Price, Usage, UsageLimits

FULL = CallUsage(prompt=10, completion=5, cache_read=4, cache_write=3, reasoning=2, calls=1, cost=0.5)


# acceptance: 28 (sums)
def test_usage_has_the_six_keys_and_the_rest_as_attributes() -> None:
    usage = Usage.of(FULL, tool_calls=7)
    assert usage == {
        "prompt_tokens": 10, "completion_tokens": 5, "cache_read_tokens": 4, "reasoning_tokens": 2, "total_tokens": 15, "calls": 1,
    }  # fmt: skip
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.requests) == (10, 5, 15, 1)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (4, 3, 2)
    assert (usage.tool_calls, usage.cost, usage.estimated) == (7, 0.5, False)
    assert json.loads(json.dumps(usage)) == usage


def test_usage_is_empty_when_no_model_was_reached() -> None:
    usage = Usage.of(NO_USAGE, tool_calls=2)
    assert usage == {}
    assert (usage.input_tokens, usage.requests, usage.tool_calls, usage.cost) == (0, 0, 2, None)


# acceptance: 28 (sums)
@given(usages, usages)
def test_adding_usages_is_the_usage_of_the_sum(one: CallUsage, other: CallUsage) -> None:
    together, whole = Usage.of(one, tool_calls=1) + Usage.of(other, tool_calls=2), Usage.of(one.plus(other), tool_calls=3)
    counted = one.calls and other.calls
    assert not counted or together == whole
    for name in ("cost", "cache_write_tokens", "tool_calls", "estimated"):
        assert getattr(together, name) == getattr(whole, name), name


@given(usages)
def test_nothing_adds_nothing(usage: CallUsage) -> None:
    assert usage.plus(NO_USAGE) == NO_USAGE.plus(usage) == usage


def test_adding_leaves_both_sides_alone_and_takes_plain_dicts() -> None:
    one, other = Usage.of(FULL), {"prompt_tokens": 1, "calls": 1}
    assert (one + other)["prompt_tokens"] == 11
    assert (Usage() + other) == other
    assert (one + other).cost == 0.5
    assert one == Usage.of(FULL)


@pytest.mark.parametrize(
    ("one", "other", "cost"), [(None, None, None), (None, 0.5, 0.5), (0.5, None, 0.5), (0.5, 0.25, 0.75), (0.0, None, 0.0)]
)
def test_a_cost_is_unknown_only_where_no_part_is_known(one: float | None, other: float | None, cost: float | None) -> None:
    a, b = CallUsage(calls=1, cost=one), CallUsage(calls=1, cost=other)
    assert a.plus(b).cost == cost
    assert (Usage.of(a) + Usage.of(b)).cost == cost


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["total_tokens", "input_tokens", "output_tokens", "requests", "tool_calls", "cost", "seconds"])
@pytest.mark.parametrize("value", [0, -1, True, float("nan")])
def test_a_limit_is_a_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"UsageLimits.{name} is "):
        UsageLimits(**{name: value})


def test_a_limit_of_words_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        UsageLimits(total_tokens="many")  # type: ignore[arg-type]  # what a typo gives


def test_limits_are_plain_data() -> None:
    limits = UsageLimits(total_tokens=5, cost=0.5)
    assert limits.to_dict() == {"total_tokens": 5, "cost": 0.5}
    assert UsageLimits(**limits.to_dict()) == limits
    assert UsageLimits().to_dict() == {}


def test_limits_of_a_call_come_before_those_of_the_configuration_field_by_field() -> None:
    base = UsageLimits(total_tokens=100, requests=3)
    assert UsageLimits(total_tokens=5, cost=1.0).over(base) == UsageLimits(total_tokens=5, requests=3, cost=1.0)
    assert UsageLimits(total_tokens=5).over(None) == UsageLimits(total_tokens=5)
    assert base == UsageLimits(total_tokens=100, requests=3)


# --- prices ----------------------------------------------------------------------------------------

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (CallUsage(prompt=MILLION), 3.0),
        (CallUsage(completion=MILLION), 15.0),
        (CallUsage(prompt=MILLION, cache_read=MILLION), 0.3),
        (CallUsage(prompt=MILLION, cache_write=MILLION), 3.75),
        (
            CallUsage(prompt=4 * MILLION, cache_read=MILLION, cache_write=MILLION, completion=MILLION, reasoning=MILLION),
            6.0 + 0.3 + 3.75 + 15.0,
        ),
        (CallUsage(prompt=0, cache_read=MILLION), 0.3),
        (NO_USAGE, 0.0),
    ],
)
def test_a_price_is_per_million_tokens_and_cached_ones_have_their_own(usage: CallUsage, cost: float) -> None:
    assert Price(input=3.0, output=15.0, cache_read=0.3, cache_write=3.75).of(usage) == pytest.approx(cost)


def test_without_a_price_of_their_own_cached_tokens_cost_what_others_cost() -> None:
    assert Price(3.0, 15.0).of(CallUsage(prompt=MILLION, cache_read=400_000, cache_write=100_000)) == pytest.approx(3.0)
