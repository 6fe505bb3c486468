"""The release check sees what is wrong with a release; `make release-check` runs it on a real one."""

from __future__ import annotations

import tomllib

import release
import sbom

WHEEL = [*release.IN_WHEEL, "power_loop-4.0.0.dist-info/METADATA"]
SDIST = [f"power_loop-4.0.0/{name}" for name in release.IN_SDIST]


def test_a_sound_release_passes() -> None:
    assert release.wrong_in_wheel(WHEEL) == []
    assert release.wrong_in_sdist(SDIST) == []


def test_a_wheel_holds_the_package_and_nothing_else() -> None:
    assert release.wrong_in_wheel([*WHEEL, "tests/conftest.py"]) == ["tests/conftest.py"]
    assert release.wrong_in_wheel([*WHEEL, "power_loop/__pycache__/loop.cpython-311.pyc"]) == [
        "power_loop/__pycache__/loop.cpython-311.pyc"
    ]
    assert release.wrong_in_wheel(WHEEL[1:]) == [f"{WHEEL[0]} is missing"]


def test_what_a_program_left_behind_does_not_go_into_an_sdist() -> None:
    for name in ("app.db", "docs/app.db-wal", "site/index.html", ".venv-3.12/bin/python", "tests/.pytest_cache/x"):
        assert release.wrong_in_sdist([*SDIST, f"power_loop-4.0.0/{name}"]) == [name]


def test_the_files_that_it_wants_are_there() -> None:
    root = release.ROOT
    assert [name for name in release.IN_SDIST if not (root / name).is_file()] == []
    assert [name for name in release.IN_WHEEL if not (root / "src" / name).is_file()] == []


def test_the_bill_of_materials_names_every_extra_and_no_mandatory_part() -> None:
    bill = sbom.document()
    extras = {
        extra for part in bill["components"] for each in part["properties"] if each["name"] == "extras" for extra in each["value"].split()
    }
    project = tomllib.loads((release.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras == set(project["optional-dependencies"]) - set(sbom.NOT_SHIPPED)
    assert {part["scope"] for part in bill["components"]} == {"optional"}
    assert bill["dependencies"] == [{"ref": bill["metadata"]["component"]["bom-ref"], "dependsOn": []}]
    assert bill == sbom.document(), "the same sources, the same bill"
