"""The doors hand on everything that belongs behind them, and light modules stay light."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import power_loop.errors
import power_loop.events
import power_loop.records
from power_loop.contracts import errors, payload_classes, records


def classes_of(module: ModuleType) -> set[str]:
    return {name for name, thing in inspect.getmembers(module, inspect.isclass) if thing.__module__ == module.__name__}


def test_every_payload_class_can_be_imported_from_the_events_door() -> None:
    assert classes_of(payload_classes) <= set(power_loop.events.__all__)


def test_every_record_can_be_imported_from_the_records_door() -> None:
    assert classes_of(records) <= set(power_loop.records.__all__)


def test_every_public_error_can_be_imported_from_the_errors_door() -> None:
    assert classes_of(errors) - {"ContextOverflow"} == set(power_loop.errors.__all__)


@pytest.mark.parametrize("door", ["power_loop.events", "power_loop.errors", "power_loop.records", "power_loop.compat"])
def test_a_door_has_every_name_that_it_lists(door: str) -> None:
    module = importlib.import_module(door)
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_a_loop_that_nobody_listens_to_needs_no_payloads_and_no_contexts() -> None:
    code = (
        "import sys, power_loop.runtime.bus, power_loop.runtime.hooks\n"
        "print([name for name in sys.modules if 'payload' in name or 'hook_contexts' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
