"""The long day, for two seconds: what `make soak` does, and that it would say so if something were wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "scripts" / "soak.py"


def test_a_mixed_day_breaks_no_invariant_and_holds_nothing_back():
    day = subprocess.run([sys.executable, SOAK, "--seconds", "2"], capture_output=True, text=True, check=False)
    assert (day.returncode, "deeds, 0 violations" in day.stdout) == (0, True), day.stdout + day.stderr
