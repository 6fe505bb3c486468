"""Texts that come in pieces, without the secrets that no piece shows alone."""

from __future__ import annotations

import re
from collections.abc import Callable

# What may yet make a secret of the end of a text: letters and digits enough for a key, then what ends the password of a URL;
# the parts of a signed token; and the end of what stands in a tag.
_KEY, _TOKEN = "A1b2C3d4" * 4 + "@h/", "A1b2C3d4A1b2.A1b2C3d4A1b2.A1b2"
_TAG = re.compile(r"<((?:[\w.-]{1,64}:)?[\w.-]{1,64})(?:\s[^<>]{0,256})?>[^<]*(</?[\w.:-]*)?\Z")
# What stood before a piece and may name it; and what is looked through at most, while something is hidden that has no end yet.
KEPT, MOST = 256, 4_096


class Pieces:
    """One text as it comes: `take` gives what of it is sure to be none of a secret. Its last word may be held back for the next piece."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._raw = self._told = ""

    def take(self, piece: str) -> str:
        """What can be told by now, beyond what was."""
        raw = self._raw = self._raw + piece
        now, mores = self._clean(raw), _continuations(raw)
        longer = [self._clean(raw + more) for more in mores]
        sure = now[: min(_alike(now, each) for each in longer)]
        told = sure[_alike(sure, self._told) :]
        if told or not self._told.startswith(sure):  # else less is sure by now than what was told: "sk" may begin a key, or a word
            self._told = sure
        if sure == now and all(each.endswith(more) for each, more in zip(longer, mores, strict=True)):
            self._keep(raw[-KEPT:])
        elif len(raw) > MOST:  # the beginning of what is hidden, and its end
            at = _alike(now, raw)
            self._keep(raw[max(0, at - KEPT) : at + KEPT] + raw[-KEPT:])
        return told

    def _keep(self, raw: str) -> None:
        """Enough to know what comes next."""
        self._raw, self._told = raw, self._clean(raw)


def _continuations(raw: str) -> list[str]:
    tag = _TAG.search(raw) if "<" in raw else None
    if tag is None:
        return [_KEY, _TOKEN]
    end, begun = f"</{tag[1]}>", tag[2] or ""
    return [_KEY, _TOKEN, end[len(begun) :] if end.startswith(begun) else end]


def _alike(one: str, other: str) -> int:
    """With how many equal characters both begin."""
    if one.startswith(other):
        return len(other)
    if other.startswith(one):
        return len(one)
    return next(at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
