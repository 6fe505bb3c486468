"""What was written before and need not be written again: names, ids and short texts come again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REMEMBERED = 2000
SHORT_CHARS = 120


class Seen(dict[Any, str]):
    """Values as ``write`` writes them. What is long is written anew each time; what is too many is forgotten."""

    def __init__(self, write: Callable[[Any], str]) -> None:
        self._write = write

    def __missing__(self, value: Any) -> str:
        told = self._write(value)
        if len(told) <= SHORT_CHARS:
            if len(self) >= REMEMBERED:
                self.clear()
            self[value] = told
        return told
