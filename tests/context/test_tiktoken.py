"""Tokens counted by tiktoken where a host asks for it; without its vocabulary the estimate stands in, and one line says so."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from power_loop import estimate_text_tokens, estimate_tokens
from power_loop.contracts import token_counts

# A vocabulary of single bytes: every byte of a text is a token.
BYTES = tiktoken.Encoding("bytes", pat_str=r".", mergeable_ranks={bytes([n]): n for n in range(256)}, special_tokens={"<|end|>": 256})


@pytest.fixture(autouse=True)
def nothing_remembered() -> Any:
    token_counts._encoding.cache_clear()
    yield
    token_counts._encoding.cache_clear()


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda model: BYTES)


@pytest.mark.usefixtures("vocabulary")
@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("four", 4), ("漢", 3), ("<|end|>", 7), ("a\ud800", 2)])
def test_tiktoken_counts_for_the_model_that_is_named(text: str, tokens: int) -> None:
    assert estimate_text_tokens(text, model="gpt-x") == tokens


@pytest.mark.usefixtures("vocabulary")
def test_messages_are_counted_with_their_calls_and_pictures() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    picture = [{"type": "text", "text": "this"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [{"role": "user", "content": picture}, {"role": "assistant", "content": "", "tool_calls": calls}]
    assert estimate_tokens(messages, model="gpt-x") == (4 + 4 + 765) + (4 + 6)


@pytest.mark.usefixtures("vocabulary")
def test_nobody_is_counted_so_who_names_no_model() -> None:
    assert estimate_text_tokens("x" * 1000) == 250


def test_without_a_network_the_estimate_stands_in_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """tiktoken itself, with an empty cache, and a proxy at which nobody listens."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.WARNING, "power_loop"):
        assert [estimate_text_tokens("x" * 1000, model="gpt-4o") for _ in range(3)] == [250] * 3
    [line] = caplog.messages
    assert "tokens for the model 'gpt-4o' are estimated" in line


@pytest.mark.parametrize("absent", [True, False])
def test_without_the_extra_or_for_an_unknown_model_the_estimate_stands_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, absent: bool
) -> None:
    if absent:
        monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert estimate_tokens([{"role": "user", "content": "x" * 1000}] * 2, model="somebody-elses") == 508
    assert len(caplog.messages) == 1


def test_a_text_that_tiktoken_gives_up_on_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    class GivesUp:
        def encode_ordinary(self, text: str) -> list[int]:
            raise RuntimeError("too long")

    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda model: GivesUp())
    assert estimate_text_tokens("x" * 1000, model="gpt-x") == 250
