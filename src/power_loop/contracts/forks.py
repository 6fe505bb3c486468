"""Having an object told of the forks of its process while it lives."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from power_loop.contracts.log import log

T = TypeVar("T")


def _untouched(subject: object) -> None:
    """Nothing is to be done then."""


class Minder(NamedTuple):
    """Whom forks concern, and what is called on it."""

    subject: weakref.ref[Any]
    before: Callable[[Any], object]
    in_parent: Callable[[Any], object]
    in_child: Callable[[Any], object]


# Python forgets no hook, so it has one of ours, and these are forgotten with their subjects.
_minded: dict[int, Minder] = {}
_kept: list[object] = []
_told: list[Minder] = []
"""Who was told of the fork that is about to be: others, made meanwhile in another thread, have nothing to undo."""


def mind_forks(
    subject: T,
    *,
    before: Callable[[T], object] = _untouched,
    in_parent: Callable[[T], object] = _untouched,
    in_child: Callable[[T], object] = _untouched,
) -> None:
    """Call these on ``subject`` at every fork, as long as it lives. What ``in_child`` gives back is never freed in the child."""
    this = weakref.ref(subject, lambda this: _minded.pop(id(this), None))
    _minded[id(this)] = Minder(this, before, in_parent, in_child)


def _before() -> None:
    _told[:] = _minded.values()
    for minder in reversed(_told):
        _tell(minder, minder.before)


def _in_parent() -> None:
    for minder in _told:
        _tell(minder, minder.in_parent)


def _in_child() -> None:
    for minder in list(_minded.values()):
        _kept.append(_tell(minder, minder.in_child))


def _tell(minder: Minder, tell: Callable[[Any], object]) -> object:
    """One that fails keeps it from no other."""
    subject = minder.subject()
    try:
        return None if subject is None else tell(subject)
    except Exception:  # a fork cannot be refused
        log.exception("what is to be done at a fork failed for %s", type(subject).__name__)
        return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
