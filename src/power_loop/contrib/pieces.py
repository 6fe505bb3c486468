"""Texts that come in pieces, without the secrets that no piece shows alone."""

from __future__ import annotations

from collections.abc import Callable

# Continues whatever may yet become a secret: letters and digits enough for a key, then what ends the password of a URL.
MORE = "A1b2C3d4" * 4 + "@h/"
# What stood before a piece and may name it; and what is looked through at most, while something is hidden that has no end yet.
KEPT, MOST = 256, 65_536


class Pieces:
    """One text as it comes: `take` gives what of it no continuation makes a secret. Its last word may be held back for the next piece."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._raw = self._told = ""

    def take(self, piece: str) -> str:
        """What can be told by now, beyond what was."""
        raw = self._raw = self._raw + piece
        now, longer = self._clean(raw), self._clean(raw + MORE)
        if now == raw and longer == raw + MORE:
            told = raw[_alike(raw, self._told) :]
            self._keep()
            return told
        sure = now[: _alike(now, longer)]
        told = sure[_alike(sure, self._told) :]
        if told or not self._told.startswith(sure):  # else less is sure by now than what was told: "sk" may begin a key, or a word
            self._told = sure
        if (sure == now and longer.endswith(MORE)) or len(raw) > MOST:
            self._keep()
        return told

    def _keep(self) -> None:
        """Nothing is under way: the end is enough to know what comes next."""
        self._raw = self._raw[-KEPT:]
        self._told = self._clean(self._raw)


def _alike(one: str, other: str) -> int:
    """With how many equal characters both begin."""
    if one.startswith(other):
        return len(other)
    return next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), min(len(one), len(other)))
