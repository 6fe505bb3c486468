"""Named tuples that are made many times in every send."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:

    def made(of: type[T], fields: Iterable[Any], /) -> T:
        """``made(Head, (...))`` is ``Head(...)`` with every field given, in order.

        The constructor that Python writes for a named tuple is a function of its own, with names and defaults to look
        after, and takes twice as long.
        """
        ...
else:
    made = tuple.__new__
