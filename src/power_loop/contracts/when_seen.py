"""Fields of dataclasses that are made when somebody first looks at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def made_when_seen(of: type[T], name: str, make: Callable[[T], Any]) -> None:
    """Have ``make(instance)`` give the field ``name`` of instances of ``of`` that have none of their own; each keeps what it gave.

    To be called behind the dataclass's back, for which the stand-in would be a default value.
    """
    setattr(of, name, _StandIn(name, make))


class _StandIn:
    """What an instance has of its own goes before it."""

    def __init__(self, name: str, make: Callable[[Any], Any]) -> None:
        self._name, self._make = name, make

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            raise AttributeError(self._name)
        value = self._make(instance)
        setattr(instance, self._name, value)
        return value
