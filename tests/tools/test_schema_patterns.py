"""Patterns out of schemas: the same verdict as Python's `re`, in bounded time, whoever wrote them."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from power_loop.contracts.schema import assertions
from power_loop.contracts.schema.compile import compile_schema
from power_loop.contracts.schema.patterns import MAX_STEPS, Pattern, Places, Walk
from power_loop.tools.validate import compile_schema as compile_with_extra

# Each takes `re` longer than a lifetime, or minutes, on the text beside it.
SLOW = [
    (r"^(a+)+$", "a" * 5000 + "!", False),
    (r"(a|a)*b", "a" * 5000, False),
    (r"^(\w+\s?)*$", "word " * 1000 + "!", False),
    (r"(.*,){11}P", "1," * 3000, False),
    (r"a*a*a*a*b", "a" * 3000, False),
    (r"^([a-z]+-)*[a-z]+$", "abc-" * 2000 + "abc", True),
    (r"^[^@\s]+@[^@\s]+\.[a-z]+$", "a@" + "b." * 5000 + "com", True),
    (r"\s+$", " " * 50_000 + "x", False),
    (r"^(a+)+(?![\s\S])", "a" * 5000 + "!", False),
    (r"^(a+)+(?![\s\S])", "a" * 5000, True),
    (r"^(?:a?){40}b", "a" * 12, False),
    (r"^(?:(?!(?:a|a){40}c)a?){2}b", "a" * 50, False),
    (r"^(?=(a+)+$)b|c", "a" * 5000, False),
    (r"(?m)^\s+x", "\n" * 20_000, False),
    (r"^(a*)\1b", "a" * 4000, False),
    (r"(?i)(a+)+b", "A" * 5000, False),
    ("(?:){4000000000}$", "x", True),
]

# What generators of schemas write, and people.
NESTED = [
    (r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
     ["a.b@mail.example.com"], ["a..b@example.com", ".a@b.com", "a@b"]),
    (r"^(?=.{1,253}$)([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}$", ["api-1.example.com"], ["a" * 300 + ".com", "-a.com"]),
    (r"(?i)^([a-z]+-)*[a-z]+$", ["Some-Slug"], ["no--slug"]),
    (r"^((['\"])(\w+\s?)*\2)+$", ["'one two'\"three\""], ["'one\""]),
    (r"^(\w+\s?)+(?<=end)$", ["this is the end"], ["the end is this"]),
]  # fmt: skip

# The way a pattern is used in practice.
ORDINARY = [
    r"^[a-z0-9-]{1,64}$", r"^\d{4}-\d{2}-\d{2}$", r"^(?=.*[A-Z])(?=.*\d).{8,}$", r"^(GET|POST)\s", r"(?i)^yes|no$", r"^[^/]+(/[^/]+)*$",
    r"\bword\b", r"(['\"]).*\1", r"^\+?[0-9 ()-]{5,20}$", "^.*$", "",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "found"), SLOW)
def test_a_pattern_that_backtracks_for_ever_is_told_in_proportion_to_the_text(text: str, value: str, found: bool) -> None:
    validator = compile_schema({"type": "string", "pattern": text})
    begun = time.thread_time()
    assert validator.is_valid(value) is found
    assert time.thread_time() - begun < 5, "linear: far less, on any machine"


@pytest.mark.parametrize("text", ORDINARY)
@pytest.mark.parametrize(
    "value", ["", "yes", "a word", "2024-05-06", "Abcdefg1", "a/b/c", "GET /", "'it'", "+49 (0)30 12", "x" * 64, "x" * 65]
)
def test_ordinary_patterns_on_ordinary_texts_are_searched_by_re(text: str, value: str) -> None:
    assert Pattern(text).matches(value) is (re.search(text, value) is not None)


@pytest.mark.parametrize(("text", "good", "bad"), NESTED)
def test_a_pattern_with_repeats_inside_of_repeats_is_checked_whatever_else_it_has(text: str, good: list[str], bad: list[str]) -> None:
    assert [Pattern(text).matches(value) for value in good + bad] == [True] * len(good) + [False] * len(bad)


def test_a_long_text_is_searched_by_re_where_that_takes_time_in_proportion() -> None:
    assert Pattern("^[a-z]+$").matches("a" * 1_000_000)


@pytest.mark.parametrize("text", [r"(?>(a+)+)b", r"(a{1000}){1000}b*c*d*", r"a.{2000}b|c", r"(?=(a+)+$)b"])
def test_what_takes_too_many_places_or_steps_is_given_up_and_said_so(text: str) -> None:
    (problem,) = compile_schema({"pattern": text}).violations("a" * 5000)
    assert "5000 characters, too many to be checked against the pattern" in problem
    (problem,) = compile_schema({"patternProperties": {text: True}}).violations({"a" * 5000: 1})
    assert "its name has 5000 characters, too many to be checked" in problem


def test_a_slow_pattern_of_property_names_is_bounded_as_well() -> None:
    schema = {"patternProperties": {"^(a+)+$": {"type": "integer"}}, "additionalProperties": False}
    validator = compile_schema(schema)
    assert validator.is_valid({"a" * 3000: 1})
    assert not validator.is_valid({"a" * 3000 + "!": 1})


def test_a_pattern_is_not_tried_by_backtracking_beyond_the_number_of_steps_it_may_take() -> None:
    assert Pattern("^[a-z]+$").steps(100_000) < MAX_STEPS
    assert Pattern("[a-z]+b").steps(100_000) > MAX_STEPS
    assert Pattern("(a+)+").steps(40) > MAX_STEPS


LEAVES = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "[ab]",
        "[^a]",
        r"\d",
        r"\w",
        r"\s",
        r"\W",
        "^",
        "$",
        r"\b",
        r"\Z",
        "é",
        "\n",
        "[a-c1-3]",
        r"[^\s\d]",
        "(?<=a)",
        "(?<!b1)",
    ]
)
PATTERNS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,2}", "{0,3}", "{1,}", "{0}"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
        inner.map(lambda each: f"({each})"),
        st.tuples(st.sampled_from(["(?=", "(?!", "(?i:"]), inner).map(lambda p: f"{p[0]}{p[1]})"),
        inner.map(lambda each: f"(?P<g>{each})(?:a|(?P=g))" if "?P" not in each else each),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("abAB1_ é\n", max_size=7))
def test_what_is_followed_here_is_found_where_backtracking_finds_it(text: str, value: str) -> None:
    parser: Any = re._parser  # type: ignore[attr-defined]  # the reading of patterns that both share
    assume(text.count("(?P<g>") <= 1)
    assert Walk(value).finds(Places(parser.parse(text)), range(len(value) + 1)) is (re.search(text, value) is not None)


def test_what_the_package_jsonschema_checks_is_bounded_too() -> None:
    validator = compile_with_extra({"pattern": "^(a+)+$", "unevaluatedProperties": False})
    assert validator.is_valid("a" * 3000)
    assert validator.violations("a" * 3000 + "!")[0].endswith("does not match the pattern ^(a+)+$")
    with pytest.raises(ValueError, match="might be searched for ever"):
        compile_with_extra({"patternProperties": {"^(a+)+$": True}, "unevaluatedProperties": False})


def test_a_pattern_that_the_package_jsonschema_meets_is_compiled_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def counted(text: str) -> Pattern:
        compiled.append(text)
        return Pattern(text)

    validator = compile_with_extra({"unevaluatedProperties": {"pattern": "^a+$"}})
    monkeypatch.setattr(assertions, "Pattern", counted)
    for _ in range(3):
        (said,) = validator.violations({"x": "aa", "y": "b", "z": "c"})
        assert "'y', 'z' were unevaluated and invalid" in said
    assert compiled == ["^a+$"]
