"""What the package says of itself."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

RUNTIME_EXTRAS = {
    *("openai", "anthropic", "postgres", "mysql", "skills", "pdf", "prometheus", "statsd", "otel", "mcp"),
    *("pydantic", "jsonschema", "tokens", "cron", "cli", "inspect", "dask"),
}
# What only those who work on the package need.
OTHER_EXTRAS = {"all", "dev", "docs", "quality"}


@pytest.fixture(scope="module")
def project(repo: Path) -> dict[str, Any]:
    return tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# acceptance: 2
def test_nothing_is_a_mandatory_dependency(project: dict[str, Any]) -> None:
    assert project["dependencies"] == []
    required = metadata("power-loop").get_all("Requires-Dist") or []
    assert [line for line in required if "extra ==" not in line] == []


# acceptance: 2
def test_the_extras_are_the_promised_ones(project: dict[str, Any]) -> None:
    assert set(project["optional-dependencies"]) == RUNTIME_EXTRAS | OTHER_EXTRAS


# acceptance: 2
def test_all_is_every_runtime_extra_but_dask(project: dict[str, Any]) -> None:
    (everything,) = project["optional-dependencies"]["all"]
    listed = re.fullmatch(r"power-loop\[(.*)\]", everything)
    assert listed is not None
    assert set(listed[1].split(",")) == RUNTIME_EXTRAS - {"dask"}


# acceptance: 3 (metadata)
def test_python_3_11_is_the_oldest(project: dict[str, Any]) -> None:
    assert project["requires-python"] == ">=3.11"
    assert metadata("power-loop")["Requires-Python"] == ">=3.11"


def test_the_package_is_marked_as_typed(repo: Path) -> None:
    assert (repo / "src" / "power_loop" / "py.typed").is_file()
