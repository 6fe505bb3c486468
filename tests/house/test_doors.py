"""Doors, as somebody sees them who types a dot."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["power_loop.llm", "power_loop.workflow", "power_loop.testing"])
def test_a_door_lists_what_it_gives_and_gives_what_it_lists(name: str) -> None:
    door = import_module(name)
    assert dir(door) == sorted(getattr(door, "__all__", dir(door)))
    assert all(getattr(door, each) is not None for each in dir(door))
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'nothing'"):
        _ = door.nothing
