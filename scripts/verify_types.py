"""Whether every public symbol has a type that all checkers agree on: ``python scripts/verify_types.py [LIMIT]``.

Asks ``pyright --verifytypes``, shows the first ``LIMIT`` (default 20) symbols whose type is unknown or only inferred,
and ends with 1 when there is one. What other packages leave untyped is not ours to answer for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(sys.executable).parent


def report() -> dict[str, Any]:
    """What pyright found. It looks for the package in the environment of the ``python`` that is first on the PATH."""
    env = {**os.environ, "PATH": f"{HERE}{os.pathsep}{os.environ['PATH']}"}
    command = [HERE / "pyright", "--verifytypes", "power_loop", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
    return json.loads(done.stdout)["typeCompleteness"]


def untyped(found: dict[str, Any]) -> list[str]:
    """A line for each place whose type is unknown or inferred; what only follows from another one is left out."""
    lines = {
        f"{symbol['name']}: {' '.join(said['message'].split())}"
        for symbol in found["symbols"]
        if not symbol["isTypeKnown"]
        for said in symbol.get("diagnostics", ())
        if "docstring" not in said["message"] and "partially unknown" not in said["message"]
    }
    return sorted(lines)


def main() -> int:
    limit = int(sys.argv[1]) if sys.argv[1:] else 20
    found = report()
    counts, score = found["exportedSymbolCounts"], found["completenessScore"]
    print("\n".join(untyped(found)[:limit]))
    print(f"{counts['withKnownType']} public symbols with a known type, {score:.2%}")
    return 0 if score == 1.0 and counts["withKnownType"] else 1


if __name__ == "__main__":
    sys.exit(main())
