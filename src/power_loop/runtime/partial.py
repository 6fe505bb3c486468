"""The answer that a model is writing, shown as far as it is a document: passing events, never a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.contracts.structured import OutputForm
    from power_loop.runtime.tell import Teller

# The whole text is read again for each look; one for so much growth keeps the reading of long answers linear.
LOOKS_PER_DOUBLING = 64


class Partial:
    """What one attempt of a model call has written so far."""

    __slots__ = ("_chars", "_form", "_looked_at", "_pieces", "_shown", "_teller")

    def __init__(self, form: OutputForm, teller: Teller) -> None:
        self._form, self._teller = form, teller
        self.begin()

    def begin(self) -> None:
        """Another attempt: what the last one wrote is void."""
        self._pieces: list[str] = []
        self._chars = self._looked_at = 0
        self._shown: Any = None

    def hear(self, text: str) -> None:
        self._pieces.append(text)
        self._chars += len(text)
        if (self._chars - self._looked_at) * LOOKS_PER_DOUBLING >= self._chars:
            self.look()

    def look(self) -> None:
        """Tell what the text amounts to by now, if that is something else than before."""
        if self._looked_at == self._chars or not self._teller.wants("stream_output"):
            return
        self._looked_at = self._chars
        value = self._form.so_far("".join(self._pieces))
        if value is not None and value != self._shown:
            self._shown = value
            self._teller.say("stream_output", stream_id="main", value=value)
