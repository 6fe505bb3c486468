"""Having an object told of the forks of its process while it lives."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _untouched(subject: object) -> None:
    """Nothing is to be done then."""


def mind_forks(
    subject: T,
    *,
    before: Callable[[T], object] = _untouched,
    in_parent: Callable[[T], object] = _untouched,
    in_child: Callable[[T], object] = _untouched,
) -> None:
    """Call these on ``subject`` at every fork. Python never forgets a registration, so it only holds a weak reference."""
    if not hasattr(os, "register_at_fork"):
        return
    this = weakref.ref(subject)

    def telling(tell: Callable[[T], object]) -> Callable[[], None]:
        def told() -> None:
            if (alive := this()) is not None:
                tell(alive)

        return told

    os.register_at_fork(before=telling(before), after_in_parent=telling(in_parent), after_in_child=telling(in_child))
