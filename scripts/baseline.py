"""The frozen list of what programs may rely on: names, constructor parameters, error codes, event types, hook points.

``python scripts/baseline.py`` tells what the package lacks of it; ``--write`` adds what is new. Nothing is ever
taken out here: removing a line of tests/house/baseline.json by hand is what a major version is for.
"""

from __future__ import annotations

import enum
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import power_loop

BASELINE = Path(__file__).parent.parent / "tests" / "house" / "baseline.json"
Baseline = dict[str, Any]


def current() -> Baseline:
    """What the package offers now."""
    stable = {name: thing for name in power_loop.STABLE_API if (thing := getattr(power_loop, name, None)) is not None}
    errors = {name: thing for name in power_loop.__all__ if is_error(thing := getattr(power_loop, name, None))}
    return {
        "names": sorted(stable),
        "parameters": {name: parameters(thing) for name, thing in sorted(stable.items()) if parameters(thing)},
        "error_codes": {name: error.code for name, error in sorted(errors.items())},
        "event_types": sorted(str(member.value) for member in power_loop.AgentEventType),
        "hook_points": sorted(str(member.value) for member in power_loop.HookPoint),
    }


def is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, power_loop.PowerLoopError)


def parameters(thing: Any) -> list[str]:
    """The names that a caller may write, of an enum its members; empty where the signature cannot be read or says nothing."""
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        return list(thing.__members__)
    try:
        found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each.name for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and not each.name.startswith("_")]


def lost(frozen: Baseline, now: Baseline) -> Iterator[str]:
    """Every line of ``frozen`` that ``now`` breaks."""
    for part in ("names", "event_types", "hook_points"):
        yield from (f"{part}: {name} is gone" for name in frozen[part] if name not in now[part])
    for name, code in frozen["error_codes"].items():
        if now["error_codes"].get(name) != code:
            yield f"error_codes: {name} had {code!r}, has {now['error_codes'].get(name)!r}"
    for name, expected in frozen["parameters"].items():
        gone = [each for each in expected if each not in now["parameters"].get(name, [])]
        if gone and name in now["names"]:
            yield f"parameters: {name} no longer takes {', '.join(gone)}"


def extended(frozen: Baseline, now: Baseline) -> Baseline:
    """``frozen`` with all of ``now``; where both speak of one thing, ``frozen`` stands."""
    joined: Baseline = {part: sorted({*frozen[part], *now[part]}) for part in ("names", "event_types", "hook_points")}
    joined["error_codes"] = dict(sorted({**now["error_codes"], **frozen["error_codes"]}.items()))
    both = {*frozen["parameters"], *now["parameters"]}
    joined["parameters"] = {
        name: list(dict.fromkeys([*frozen["parameters"].get(name, []), *now["parameters"].get(name, [])])) for name in sorted(both)
    }
    return joined


def load() -> Baseline:
    return json.loads(BASELINE.read_text(encoding="utf-8"))


def main() -> int:
    frozen, now = load(), current()
    if "--write" in sys.argv[1:]:
        BASELINE.write_text(json.dumps(extended(frozen, now), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    problems = list(lost(frozen, now))
    print("\n".join(problems) or "nothing of the baseline is missing")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
