"""The door to what tests need: models with a script, and the guard against real calls. Importing a name loads only its module.

A part of the package that offers something to tests adds its names to the table.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.testing.guard import forbid_model_calls as forbid_model_calls
    from power_loop.testing.scripted import FunctionLLM as FunctionLLM
    from power_loop.testing.scripted import ScriptedLLM as ScriptedLLM
    from power_loop.testing.scripted import call as call
    from power_loop.testing.scripted import calls as calls
    from power_loop.testing.scripted import fail as fail
    from power_loop.testing.scripted import hang as hang
    from power_loop.testing.scripted import raw_call as raw_call
    from power_loop.testing.scripted import respond as respond
    from power_loop.testing.scripted import say as say

# Name → the module of this package that has it.
_HOMES = {
    "FunctionLLM": "scripted",
    "ScriptedLLM": "scripted",
    "call": "scripted",
    "calls": "scripted",
    "fail": "scripted",
    "forbid_model_calls": "guard",
    "hang": "scripted",
    "raw_call": "scripted",
    "respond": "scripted",
    "say": "scripted",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
