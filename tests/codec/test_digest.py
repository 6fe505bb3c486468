"""The digest of a request: the same for the same request in any process, another for any other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from histories import lives
from hypothesis import given

from power_loop.contracts.digest import RequestDigest, closing, request_digest
from power_loop.contracts.model import LLMRequest
from power_loop.runtime.ports import Closings


def asked(**changed: Any) -> LLMRequest:
    return LLMRequest(**{"messages": [{"role": "user", "content": "hi"}], "system_prompt": "be brief", "model": "m", **changed})


BASE = request_digest(asked())


def test_it_is_sixteen_plain_characters_and_does_not_change() -> None:
    assert len(BASE) == 16
    assert BASE.replace("-", "").replace("_", "").isalnum()
    assert request_digest(copy.deepcopy(asked())) == BASE


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": "hi "}]},
        {"messages": [{"role": "assistant", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi", "name": "ann"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": ""}]},
        {"system_prompt": None},
        {"system_prompt": "be long"},
        {"model": "n"},
        {"tools": [{"type": "function", "function": {"name": "read"}}]},
        {"tool_choice": "none"},
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"response_format": {"type": "json_object"}},
        {"response_format": int},
        {"extra": {"seed": 1}},
    ],
)
def test_whatever_shapes_the_reply_counts(changed: dict[str, Any]) -> None:
    assert request_digest(asked(**changed)) != BASE


@pytest.mark.parametrize("changed", [{"call_id": "c"}, {"session_id": "s"}, {"reason": "r"}, {"retry_in_transport": False}, {"tools": []}])
def test_bookkeeping_does_not_count(changed: dict[str, Any]) -> None:
    assert request_digest(asked(**changed)) == BASE


def test_messages_are_told_apart_however_their_text_is_cut() -> None:
    def of(*texts: str) -> str:
        return request_digest(asked(messages=[{"role": "user", "content": text} for text in texts]))

    cuts = [("ab",), ("a", "b"), ("auser:1:b",), ("auser:b",), ("a", ""), ("", "a"), ('{"content":"ab","role":"user"}',)]
    assert len({of(*cut) for cut in cuts}) == len(cuts)


def test_text_that_has_no_utf8_has_a_digest() -> None:
    lone = [{"role": "user", "content": "\ud800"}, {"role": "user", "content": ["\udfff"]}]
    assert request_digest(asked(messages=lone)) != BASE


def test_the_order_of_keys_does_not_count() -> None:
    one = asked(messages=[{"role": "user", "content": "hi", "name": "ann"}])
    other = asked(messages=[{"name": "ann", "content": "hi", "role": "user"}])
    assert request_digest(one) == request_digest(other)


@given(lives(folds=True))
def test_a_chain_kept_over_the_window_gives_the_digest_of_the_whole_request(life: Any) -> None:
    request = asked(messages=[*life.window.messages, {"role": "user", "content": "a reminder"}])
    assert life.window.digest().text(request.messages[-1:], closing(request)) == request_digest(request)


def test_a_chain_goes_on_without_what_a_digest_had_behind_it() -> None:
    chain = RequestDigest()
    assert chain.text([{"role": "user", "content": "hi"}], b"end") != RequestDigest().text()
    assert chain.text() == RequestDigest().text()


@pytest.mark.parametrize("changed", [{"temperature": 0}, {"max_tokens": 2}, {"tool_choice": "none"}, {"extra": {"a": 1}}])
def test_a_kept_closing_is_that_of_the_request(changed: dict[str, Any]) -> None:
    kept, request = Closings(), asked(temperature=0.0, max_tokens=1)
    assert kept.of(request) == closing(request)
    other = asked(**{"temperature": 0.0, "max_tokens": 1, **changed})
    assert kept.of(other) == closing(other)
    assert kept.of(request) == closing(request)
