"""`src/power_loop/__init__.pyi`, from the table of public names, so that type checkers read what the package loads."""

from __future__ import annotations

from pathlib import Path

import power_loop

STUB = Path(power_loop.__file__).with_suffix(".pyi")
HEAD = '"""The public names, for type checkers; `__init__.py` loads them lazily. `make map` writes this file."""\n\n'
# Modules of which every name is public: the payloads and the hook contexts.
WHOLE = ("contracts.hook_contexts", "contracts.payload_classes")


def document() -> str:
    """The text of the stub."""
    parts = [f"from power_loop.{home} import {_names(names)}\n" for home, names in sorted(power_loop._HOMES.items())]
    parts += [f"from power_loop.{home} import *\n" for home in WHOLE]
    return HEAD + "".join(parts) + "\nSTABLE_API: tuple[str, ...]\n__all__: list[str]\n"


def _names(names: str) -> str:
    listed = "".join(f"    {name} as {name},\n" for name in sorted(names.split()))
    return f"(\n{listed})"


def files() -> dict[Path, str]:
    return {STUB: document()}
