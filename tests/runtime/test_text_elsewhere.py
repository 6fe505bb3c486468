"""What a reader is given of a text that another process writes: only what is new, and anew where it does not go on."""

from __future__ import annotations

import pytest

from power_loop.contracts.watch import PassingText
from power_loop.runtime.elsewhere import Elsewhere


def passing(*pieces: tuple[bool, str]) -> PassingText:
    """Of each piece: is it a thought, and its text."""
    return PassingText("they", "c1", 1, 0, 3, pieces)


def told(reader: Elsewhere, text: PassingText | None) -> list[str]:
    return [str(fields.get("text", fields.get("aborted", type))) for type, fields, _ in reader.shows(text)]


def test_only_what_is_new_is_given() -> None:
    reader = Elsewhere()
    assert told(reader, passing((True, "Hm"))) == ["stream_started", "Hm"]
    assert told(reader, passing((True, "Hm"))) == []
    assert told(reader, passing((True, "Hmm."), (False, "Yes"))) == ["m.", "Yes"]
    assert told(reader, None) == ["True"]
    assert told(reader, None) == []


@pytest.mark.parametrize(
    "then",
    [passing((True, "Hmm."), (False, "No")), passing((True, "Hmm.")), passing((False, "Hmm."), (False, "Yes"))],
    ids=["another word", "less than before", "another kind"],
)
def test_a_text_that_does_not_go_on_where_it_stopped_is_taken_back_and_begins_anew(then: PassingText) -> None:
    reader = Elsewhere()
    told(reader, passing((True, "Hmm."), (False, "Yes")))
    assert told(reader, then) == ["True", "stream_started", *(text for _, text in then.pieces)]
