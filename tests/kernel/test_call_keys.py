"""What a call asks for, and the key by which its attempts are known again: made of its place and its arguments, not of its id."""

from __future__ import annotations

from hashlib import sha256

import pytest

from power_loop.contracts.messages import ToolCall
from power_loop.kernel.call_keys import idempotency_key, key_of, parsed
from power_loop.kernel.state import State


def digest(*place: object) -> str:
    return sha256("\n".join(map(str, place)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


# What the model wrote → how it is spelled in the key.
SPELLED = {
    '{"b": 2, "a": 1}': '{"a":1,"b":2}',
    "": "{}",
    '{"text": "a\nb"}': '{"text":"a\\nb"}',
    '{"text": "ä"}': '{"text":"ä"}',
    "[1, 2]": "[1,2]",
    "{broken": "{broken",
    '{"a": NaN}': '{"a": NaN}',
    "half a pair \ud800": "half a pair \ud800",
    "[" * 100_000: "[" * 100_000,
}


# acceptance: 123 (kernel side)
@pytest.mark.parametrize("written", SPELLED, ids=lambda written: written[:12])
def test_a_key_is_made_of_the_place_the_name_and_the_arguments_in_one_spelling(written: str) -> None:
    key = idempotency_key("sess_1", 3, 2, 1, ToolCall("call_x", "look", written))
    assert key == digest("sess_1", 3, 2, 1, "look", SPELLED[written])
    assert len(key) == 32


# acceptance: 123 (a repeated request of the model)
def test_the_id_that_a_provider_gives_changes_no_key_and_all_else_does() -> None:
    place, call = ("sess_1", 3, 2, 1), ToolCall("call_x", "look", '{"a": 1}')
    key = idempotency_key(*place, call)
    assert idempotency_key(*place, ToolCall("call_y", "look", '{"a": 1}')) == key
    others = [("sess_2", 3, 2, 1), ("sess_1", 4, 2, 1), ("sess_1", 3, 3, 1), ("sess_1", 3, 2, 0)]
    keys = {key, *(idempotency_key(*other, call) for other in others), idempotency_key(*place, ToolCall("call_x", "see", '{"a": 1}'))}
    assert len(keys) == 6


@pytest.mark.parametrize(("rounds", "round_index"), [(0, 0), (1, 0), (3, 2)])
@pytest.mark.parametrize(("call_id", "position"), [("a", 0), ("b", 1), ("c", 2), ("unknown", 0)])
def test_the_key_of_a_call_under_way_is_that_of_its_place_in_the_round(rounds: int, round_index: int, call_id: str, position: int) -> None:
    calls = tuple(ToolCall(each, "look", "{}") for each in "abc")
    state = State()._replace(asked=calls, rounds=rounds)
    asked = ToolCall(call_id, "look", "{}")
    assert key_of("sess_1", 5, state, asked) == digest("sess_1", 5, round_index, position, "look", "{}")


def test_arguments_are_read_as_models_write_them() -> None:
    assert parsed("") == {}
    assert parsed('{"text": "a\tb\nc", "n": 1.5}') == {"text": "a\tb\nc", "n": 1.5}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_word_for_is_refused_by_name(constant: str) -> None:
    with pytest.raises(ValueError, match=rf"^{constant} is no JSON$"):
        parsed(f'{{"a": {constant}}}')
