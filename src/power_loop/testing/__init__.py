"""The door to what tests need: models, clocks, stores that die, the simulator, contracts. Importing a name loads only its module.

A part of the package that offers something to tests adds its names to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from power_loop.contracts.doors import door

if TYPE_CHECKING:
    from power_loop.testing.clock import ManualClock as ManualClock
    from power_loop.testing.clock import SeededIds as SeededIds
    from power_loop.testing.crash import Died as Died
    from power_loop.testing.crash import DyingDatabase as DyingDatabase
    from power_loop.testing.crash import DyingStore as DyingStore
    from power_loop.testing.crash import UnsureDatabase as UnsureDatabase
    from power_loop.testing.database_contract import DatabaseContract as DatabaseContract
    from power_loop.testing.faults import RandomFaults as RandomFaults
    from power_loop.testing.faults import StrikeAt as StrikeAt
    from power_loop.testing.faults import delay as delay
    from power_loop.testing.faults import jump as jump
    from power_loop.testing.faults import kill as kill
    from power_loop.testing.faults import lose_the_answer as lose_the_answer
    from power_loop.testing.faults import pause as pause
    from power_loop.testing.faults import refuse as refuse
    from power_loop.testing.guard import forbid_model_calls as forbid_model_calls
    from power_loop.testing.invariants import check_invariants as check_invariants
    from power_loop.testing.scenario import conversation as conversation
    from power_loop.testing.scripted import FunctionLLM as FunctionLLM
    from power_loop.testing.scripted import ScriptedLLM as ScriptedLLM
    from power_loop.testing.scripted import call as call
    from power_loop.testing.scripted import calls as calls
    from power_loop.testing.scripted import fail as fail
    from power_loop.testing.scripted import hang as hang
    from power_loop.testing.scripted import raw_call as raw_call
    from power_loop.testing.scripted import respond as respond
    from power_loop.testing.scripted import say as say
    from power_loop.testing.simulation import Report as Report
    from power_loop.testing.simulation import Violation as Violation
    from power_loop.testing.simulation import simulate as simulate
    from power_loop.testing.store_contract import StoreContract as StoreContract
    from power_loop.testing.sweep import at_every_gap as at_every_gap
    from power_loop.testing.world import NoFaults as NoFaults
    from power_loop.testing.world import Process as Process
    from power_loop.testing.world import World as World

_HOMES = {
    "power_loop.testing.clock": ("ManualClock", "SeededIds"),
    "power_loop.testing.crash": ("Died", "DyingDatabase", "DyingStore", "UnsureDatabase"),
    "power_loop.testing.database_contract": ("DatabaseContract",),
    "power_loop.testing.faults": ("RandomFaults", "StrikeAt", "delay", "jump", "kill", "lose_the_answer", "pause", "refuse"),
    "power_loop.testing.guard": ("forbid_model_calls",),
    "power_loop.testing.invariants": ("check_invariants",),
    "power_loop.testing.scenario": ("conversation",),
    "power_loop.testing.scripted": ("FunctionLLM", "ScriptedLLM", "call", "calls", "fail", "hang", "raw_call", "respond", "say"),
    "power_loop.testing.simulation": ("Report", "Violation", "simulate"),
    "power_loop.testing.store_contract": ("StoreContract",),
    "power_loop.testing.sweep": ("at_every_gap",),
    "power_loop.testing.world": ("NoFaults", "Process", "World"),
}  # fmt: skip

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = door(__name__, _HOMES)
__all__ = __dir__()  # pyright: ignore[reportUnsupportedDunderAll]  # the imports above are for type checkers
