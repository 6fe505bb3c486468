"""The text that another process is writing, as the stream events of whoever reads along."""

from __future__ import annotations

from collections.abc import Iterator

from power_loop.contracts.codec import content_of
from power_loop.contracts.store import RecordRow
from power_loop.contracts.watch import PassingText

Told = tuple[str, dict[str, object], PassingText]
"""(event type, fields of its payload, the text that it is of)."""


class Elsewhere:
    """The text that another process writes, as far as it was given to this reader."""

    def __init__(self) -> None:
        self._open: PassingText | None = None

    def shows(self, text: PassingText | None) -> Iterator[Told]:
        """What is new in ``text``; None: it was taken back."""
        given = self._open
        if given is not None and (text is None or text[:5] != given[:5] or not _begins(text, given)):
            yield from self._end(aborted=True)
            given = None
        if text is None:
            return
        if given is None:
            yield "stream_started", {"stream_id": "main", "call_id": text.call_id}, text
        self._open = text
        before = given.pieces if given is not None else ()
        for n, (thought, said) in enumerate(text.pieces):
            had = before[n][1] if n < len(before) else ""
            if len(said) > len(had):
                yield _delta(thought, said[len(had) :], text)

    def ended_by(self, row: RecordRow) -> Iterator[Told]:
        """A record came: with the reply the rest of its text; where the send stops without one, the text does not count."""
        given = self._open
        if given is None or row.cells.kind not in ("model_replied", "send_ended", "send_rested"):
            return
        said = "".join(text for thought, text in given.pieces if not thought)
        whole = content_of(row.cells.content, row.cells.escaped) if row.cells.kind == "model_replied" else None
        fits = isinstance(whole, str) and whole.startswith(said)
        if isinstance(whole, str) and fits and whole != said:
            yield _delta(False, whole[len(said) :], given)
        yield from self._end(aborted=not fits)

    def _end(self, *, aborted: bool) -> Iterator[Told]:
        given, self._open = self._open, None
        assert given is not None
        yield "stream_completed", {"stream_id": "main", "call_id": given.call_id, "aborted": aborted}, given


def _begins(text: PassingText, given: PassingText) -> bool:
    """``text`` goes on where ``given`` stopped."""
    if len(text.pieces) < len(given.pieces):
        return False
    pairs = zip(text.pieces, given.pieces, strict=False)
    return all(now[0] == before[0] and now[1].startswith(before[1]) for now, before in pairs)


def _delta(thought: bool, text: str, of: PassingText) -> Told:
    return "stream_think_delta" if thought else "stream_delta", {"stream_id": "main", "text": text, "is_think": thought}, of
