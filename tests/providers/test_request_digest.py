"""The digest of a request, and secrets taken out of what is written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from power_loop.contracts.digest import RequestDigest, closing, request_digest
from power_loop.contracts.model import LLMRequest
from power_loop.contracts.redact import redact

REQUEST = LLMRequest([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "Be brief.", "m", 0.0, 100)


def test_a_chain_over_the_messages_gives_the_digest_of_the_whole() -> None:
    chain = RequestDigest()
    chain.add(REQUEST.messages)
    assert chain.text(closing=closing(REQUEST)) == request_digest(REQUEST)
    more: list[dict[str, Any]] = [{"role": "user", "content": "more"}]
    chain.add(more)
    assert chain.text(closing=closing(REQUEST)) == request_digest(replace(REQUEST, messages=[*REQUEST.messages, *more]))


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": REQUEST.messages[:1]},
        {"messages": REQUEST.messages[::-1]},
        {"system_prompt": None},
        {"model": "n"},
        {"temperature": None},
        {"max_tokens": 99},
        {"tools": [{"function": {"name": "x"}}]},
        {"tool_choice": "none"},
        {"response_format": {"type": "json_object"}},
        {"extra": {"seed": 1}},
    ],
)
def test_whatever_shapes_the_reply_shapes_the_digest(changed: dict[str, Any]) -> None:
    assert request_digest(replace(REQUEST, **changed)) != request_digest(REQUEST)


def test_bookkeeping_does_not() -> None:
    told = replace(REQUEST, reason="round", call_id="c", session_id="s", retry_in_transport=False, on_restart=lambda _: None)
    assert request_digest(told) == request_digest(REQUEST)


def test_the_order_of_keys_does_not() -> None:
    turned = [dict(reversed(message.items())) for message in REQUEST.messages]
    assert request_digest(replace(REQUEST, messages=turned)) == request_digest(REQUEST)


def test_it_is_the_same_in_every_process_and_short() -> None:
    code = (
        "from power_loop.contracts.digest import request_digest; from power_loop.contracts.model import LLMRequest\n"
        "print(request_digest(LLMRequest([{'role': 'user', 'content': 'half \\ud83d'}], response_format=LLMRequest)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest = request_digest(LLMRequest([{"role": "user", "content": "half \ud83d"}], response_format=LLMRequest))
    assert done.stdout.strip() == digest
    assert len(digest) == 16


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "X-API-Key", "OPENAI_API_KEY", "Authorization", "password", "client_secret", "access_token", "Set-Cookie", "dsn"],
)
def test_what_stands_under_a_secret_name_is_hidden(name: str) -> None:
    assert redact({"outer": [{name: "x", "n": 1}]}) == {"outer": [{name: "***", "n": 1}]}


@pytest.mark.parametrize("name", ["max_tokens", "tokens", "prompt_tokens", "tokenizer", "secretary", "author"])
def test_what_only_sounds_like_a_secret_is_not(name: str) -> None:
    assert redact({name: "x"}) == {name: "x"}


def test_numbers_are_never_hidden() -> None:
    assert redact({"token_usage": {"prompt": 5, "by": ["x"]}}) == {"token_usage": {"prompt": 5, "by": ["***"]}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: ***"),
        ("postgres://me:hunter2@host/db", "postgres://me:***@host/db"),
        ("key " + "sk" + "-" + "abcd1234" * 3, "key ***"),
        ('{"password": "a \\" b", "city": "Rome"}', '{"password": "***", "city": "Rome"}'),
        ("-" * 5 + "BEGIN RSA PRIVATE KEY" + "-" * 5 + "\nabc\n", "***"),
        ("a basic question about tokens: https://example.org/a:b", "a basic question about tokens: https://example.org/a:b"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_any_text(text: str, shown: str) -> None:
    assert redact((text,)) == [shown]
    assert redact(shown) == shown
    assert redact(text, values=False) == text
