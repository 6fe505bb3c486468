"""What this package is made of, as a CycloneDX document: ``python scripts/sbom.py > sbom.json``.

The core needs nothing, so every component is optional: it comes with the extra that names it. Versions are the ranges
that a release allows; which ones an installation has, its own tools say (``pip freeze``).
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import power_loop

ROOT = Path(__file__).parent.parent
# What only those who work on the package need, and the union of the others.
NOT_SHIPPED = ("dev", "docs", "quality", "all")


def requirements() -> dict[str, tuple[str, list[str]]]:
    """Distribution → (range, the extras that bring it)."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found: dict[str, tuple[str, list[str]]] = {}
    for extra, lines in extras.items():
        for line in lines if extra not in NOT_SHIPPED else ():
            name, allowed = split(line)
            found.setdefault(name, (allowed, []))[1].append(extra)
    return found


def split(line: str) -> tuple[str, str]:
    """``name[extra]>=1`` as name and range."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", line)
    assert match is not None, line
    return match[1], match[2].strip()


def component(name: str, allowed: str, extras: list[str]) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}",
        "name": name,
        "scope": "optional",
        "purl": f"pkg:pypi/{name}",
        "properties": [{"name": "allowed", "value": allowed}, {"name": "extras", "value": " ".join(extras)}],
    }


def document() -> dict[str, Any]:
    """The same for the same sources: no time, no random serial number."""
    version = power_loop.__version__
    ours = f"pkg:pypi/power-loop@{version}"
    licence = [{"license": {"id": "MIT"}}]
    found = requirements()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "bom-ref": ours, "name": "power-loop", "version": version, "purl": ours, "licenses": licence}
        },
        "components": [component(name, *found[name]) for name in sorted(found)],
        "dependencies": [{"ref": ours, "dependsOn": []}],
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=2))
