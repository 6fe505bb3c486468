"""What a caller may say: checked before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop.words import content_said


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("hi", ("hi", None)),
        ({"role": "user", "content": "hi", "name": "ann"}, ("hi", "ann")),
        ({"content": [{"type": "text", "text": "hi"}]}, ([{"type": "text", "text": "hi"}], None)),
        ([{"type": "text", "text": ""}], ([{"type": "text", "text": ""}], None)),
        (({"type": "image_url", "image_url": {"url": "x"}},), ([{"type": "image_url", "image_url": {"url": "x"}}], None)),
    ],
)
async def test_text_blocks_and_messages_are_heard(said: Any, heard: Any) -> None:
    assert await content_said(said) == heard


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ([], "is empty"),
        ({"content": ""}, "is empty"),
        (5, "not int"),
        (None, "not NoneType"),
        ([5], "not int"),
        ({"role": "assistant", "content": "hi"}, "'assistant' cannot be sent"),
        ({"content": "hi", "name": 5}, "is text, not int"),
        ({"content": "hi", "name": "a\0b"}, "one line of text"),
        ({"content": "hi", "name": "\ud800"}, "one line of text"),
        ([{"type": "video", "video": {}}], "type must be one of"),
        ([{"type": "text"}], "type must be one of"),
        ([{"type": "attachment", "attachment": {"path": 0}}], "type must be one of"),  # which would be what somebody types
        ([{"type": "attachment", "attachment": {"data": 5}}], "type must be one of"),
        ([{"type": "attachment", "attachment": {"path": "a\0b", "data": None}}], "cannot be read"),
        ([{"type": "text", "text": "hi", "extra": object()}], "is not JSON"),
    ],
)
async def test_what_no_model_could_be_sent_is_refused(said: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        await content_said(said)
