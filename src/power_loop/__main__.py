"""``python -m power_loop`` is the command ``power-loop``."""

from __future__ import annotations

from power_loop.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
