"""A secret that comes in pieces is hidden as one that comes whole, and what is none comes as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop import AgentEvent
from power_loop.contracts.redact import redact_text
from power_loop.contrib.jsonl_sink import attach_jsonl_sink, replay
from power_loop.contrib.pieces import Pieces
from power_loop.contrib.redact import Redactor
from power_loop.contrib.seen import REMEMBERED
from power_loop.testing import hang

KEY = "sk" + "-proj-" + "A1b2C3d4" * 4
SECRETS = {
    KEY: KEY,
    "Bearer " + "t0k" * 8: "t0k" * 8,
    "password: hunter2hunter2": "hunter2hunter2",
    "postgresql://app:hunter2@db/x": "hunter2",
    '{"password": "hunter2 and more"}': "hunter2",
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKC\nAQEA7\n-----END RSA " + "PRIVATE KEY-----": "AQEA7",
    "<password>hunter2secret</password>": "hunter2secret",
    f"eyJ{'hbGciOiJIUzI1' * 2}.eyJ{'zdWIiOiIx' * 2}.{'c2lnbmF0dXJl' * 2}": "zdWIiOiIx" * 2,
    "hooks.slack.com/services/" + "T0ABCDEF/B0ABCDEF": "B0ABCDEF",
    "curl -u me:hunter2hunter2 https://h": "hunter2hunter2",
    "?sig=abcdef0123456789abcdef": "0123456789abcdef",
    "Cookie: session=abcdef123456; theme=dark": "abcdef123456",
}
# Whole words of prose, with all that makes one look twice.
PROSE = "The key to it: ask for no password. A token costs https://h.example:80/a?b=c; see x@y.z, 3.14 = pi -- done!\nAnd sk- is a mark. "


def told(text: str, cuts: list[int]) -> str:
    """The text as it comes in pieces of these lengths, again and again."""
    pieces, given, at = Pieces(redact_text), list[str](), 0
    while at < len(text):
        size = cuts[len(given) % len(cuts)]
        given.append(pieces.take(text[at : at + size]))
        at += size
    return "".join(given)


@pytest.mark.parametrize(("written", "secret"), SECRETS.items(), ids=range(len(SECRETS)))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 20, 1000])
def test_a_secret_that_comes_in_pieces_is_hidden(written: str, secret: str, size: int) -> None:
    shown = told(f"Here it is: {written}\nand that is all of it.", [size])
    assert secret not in shown
    assert secret[len(secret) // 2 :] not in shown
    assert shown.startswith("Here it is: ")
    assert shown.endswith("\nand that is all of it.")


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20), times=st.integers(1, 6))
def test_what_is_no_secret_comes_as_it_was(cuts: list[int], times: int) -> None:
    assert told(PROSE * times, cuts) == PROSE * times


@given(
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=10), written=st.lists(st.sampled_from([*SECRETS, PROSE]), min_size=1, max_size=5)
)
def test_wherever_a_text_is_cut_it_shows_what_it_would_show_whole(cuts: list[int], written: list[str]) -> None:
    text = " \n".join([*written, "the end of it\n"])
    shown, whole = told(text, cuts), redact_text(text)
    assert not any(secret in shown for secret in SECRETS.values())
    assert shown.split()[-4:] == whole.split()[-4:]


async def test_a_model_that_writes_a_secret_shows_it_in_no_file(stage: Any, tmp_path: Path) -> None:
    loop = stage.loop(hang(after=f"Here is {KEY} for you "))
    sink = attach_jsonl_sink(stage.bus, tmp_path / "e.jsonl")
    session = await loop.new_session()
    stream = loop.stream("go", session)
    async for event in stream:
        if event.type == "stream_delta" and "you" in event.delta:
            break
    await stream.aclose()
    sink.close()
    assert KEY[12:] not in "".join(event.delta for event in replay(sink.path))
    assert "Here is *** for you" in "".join(event.delta for event in replay(sink.path))


def test_two_sessions_and_what_is_thought_are_texts_of_their_own() -> None:
    redactor = Redactor()

    def shown(type: str, session: str, text: str) -> str:
        line = redactor.shown(AgentEvent(type, {"text": text}, session_id=session))
        return json.loads("{" + line)["payload"]["text"]

    half = 10  # too little to be known for a key
    assert shown("stream_delta", "a", f"x {KEY[:half]}") == "x "
    assert shown("stream_delta", "b", "plain ") == "plain "
    assert shown("stream_think_delta", "a", "hm ") == "hm "
    assert shown("stream_delta", "a", f"{KEY[half:]} y") == "*** y"


def test_a_text_in_hand_is_not_forgotten_for_others() -> None:
    redactor = Redactor()

    def shown(session: str, text: str) -> str:
        return redactor.shown(AgentEvent("stream_delta", {"text": text}, session_id=session))

    shown("late", "password='correct horse ")
    for n in range(REMEMBERED - 1):
        shown(f"s{n}", "x ")
    assert "battery" not in shown("late", "battery staple' ")


@pytest.mark.parametrize("opening", ["-----BEGIN RSA " + "PRIVATE KEY-----\n", "password='"])
def test_what_is_hidden_without_an_end_stays_hidden_and_is_not_looked_through_again_and_again(opening: str) -> None:
    looked: list[int] = []

    def counting(text: str) -> str:
        looked.append(len(text))
        return redact_text(text)

    pieces = Pieces(counting)
    told = "".join(pieces.take(piece) for piece in (opening, *(["MIIEowIBAAKCAQEA "] * 1000)))
    assert "MIIE" not in told
    assert max(looked) < 6_000
