"""What has to hold before a release: ``python scripts/release.py``, which is `make release-check`.

Builds the sdist, and from it the wheel; unpacks the sdist elsewhere and builds both again, to the same bytes; looks at
what is in them; lets `twine`, `check-wheel-contents` and the schema of CycloneDX look too where they are installed (extra
``quality``); installs the wheel in an empty environment, and imports and runs it there with nothing else.
``--lowest`` installs the lowest versions that the extras allow, in an environment of its own, and runs the tests with them
(further arguments go to pytest).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "power_loop"
# What nobody wants in a release, wherever it stands.
LEFT_BEHIND = re.compile(
    r"(^|/)(__pycache__|\.venv[^/]*|\.git|\.pytest_cache|\.ruff_cache|site|\.DS_Store)(/|$)|\.(pyc|db|db-wal|db-shm|log)$"
)
IN_SDIST = (
    "src/power_loop/__init__.py",
    "src/power_loop/py.typed",
    "tests/conftest.py",
    "docs/index.md",
    "examples/demo.py",
    "LICENSE",
    "README.md",
)
IN_WHEEL = ("power_loop/__init__.py", "power_loop/__init__.pyi", "power_loop/py.typed", "power_loop/workflow/schema.json")
MAX_WHEEL_BYTES = 2_000_000

RUN = """
import asyncio, sys
import power_loop
for name in power_loop.__all__:
    getattr(power_loop, name)
from power_loop import StatefulAgentLoop

async def main():
    async with StatefulAgentLoop(llm="echo:", dsn="release.db") as loop:
        session = await loop.new_session()
        assert (await loop.send("Hello.", session)).final_text == "echo: Hello."

asyncio.run(main())
foreign = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"power_loop", "__main__"}
foreign = {name for name in foreign if not name.startswith(("_sysconfigdata", "_virtualenv", "sitecustomize"))}
assert not foreign, foreign
print("power_loop", power_loop.__version__, "runs on", sys.version.split()[0], "with nothing else")
"""


def run(*command: str | Path, **settings: str) -> str:
    """What the command prints; its own error, and the end of ours, when it fails."""
    words, env = [str(each) for each in command], {**os.environ, **settings}
    done = subprocess.run(words, cwd=ROOT, env=env, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


# --- building -----------------------------------------------------------------------------------


def build(folder: Path, source: Path = ROOT) -> tuple[Path, Path]:
    """(wheel, sdist) of ``source``, made in ``folder``; the wheel from the sdist, as an installer would."""
    # Whoever builds it, and whenever: the same bytes.
    fixed = {"SOURCE_DATE_EPOCH": "1577836800"}
    if shutil.which("uv"):
        run("uv", "build", "--quiet", "--out-dir", folder, source, **fixed)
    else:
        run(sys.executable, "-m", "build", "--outdir", folder, source, **fixed)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def build_again(folder: Path, sdist: Path) -> tuple[Path, Path]:
    """The same from the unpacked ``sdist``: in another place, without the repository, and with the times of now."""
    with tarfile.open(sdist) as opened:
        opened.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    for file in source.rglob("*"):
        os.utime(file)
    return build(folder, source)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- looking ------------------------------------------------------------------------------------


def wrong_in_wheel(names: Iterable[str]) -> list[str]:
    """What should not be in a wheel, and what is missing there."""
    there = set(names)
    strangers = [name for name in there if not re.match(rf"{PACKAGE}(-[^/]+\.dist-info)?/", name)]
    return sorted([*strangers, *left_behind(there), *(f"{name} is missing" for name in IN_WHEEL if name not in there)])


def wrong_in_sdist(names: Iterable[str]) -> list[str]:
    """The same of an sdist; names below its one folder."""
    there = {name.partition("/")[2] for name in names}
    return sorted([*left_behind(there), *(f"{name} is missing" for name in IN_SDIST if name not in there)])


def left_behind(names: Iterable[str]) -> list[str]:
    return [name for name in names if LEFT_BEHIND.search(name)]


def look(wheel: Path, sdist: Path) -> list[str]:
    """What is wrong with what was built."""
    with zipfile.ZipFile(wheel) as opened:
        found = wrong_in_wheel(opened.namelist())
    with tarfile.open(sdist) as opened:
        found += wrong_in_sdist(opened.getnames())
    return found + ([f"{wheel.name} has {size} bytes"] if (size := wheel.stat().st_size) > MAX_WHEEL_BYTES else [])


def other_tools(wheel: Path, sdist: Path) -> list[str]:
    """What looked besides, or was not there to look."""
    told: list[str] = []
    for command in (("twine", "check", "--strict", str(wheel), str(sdist)), ("check-wheel-contents", str(wheel))):
        tool = shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if tool is None:
            told.append(f"{command[0]}: not installed")
        else:
            run(tool, *command[1:])
            told.append(f"{command[0]}: passed")
    return [*told, bill_of_materials()]


def bill_of_materials() -> str:
    """What the schema of CycloneDX says of ours."""
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        return "CycloneDX: not installed"
    bill = run(sys.executable, ROOT / "scripts" / "sbom.py")
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill):
        sys.exit(f"CycloneDX: {error}")
    return f"CycloneDX: passed, {bill.count('bom-ref') - 1} components, all of them optional"


# --- installing ---------------------------------------------------------------------------------


def environment(folder: Path) -> Path:
    """A new virtual environment; its Python."""
    if shutil.which("uv"):
        run("uv", "venv", "--quiet", "--python", sys.executable, folder)
    else:
        run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def install(python: Path, *what: str | Path) -> None:
    if shutil.which("uv"):
        run("uv", "pip", "install", "--quiet", "--python", python, *what)
    else:
        run(python, "-m", "pip", "install", "--quiet", *what)


def runs_alone(wheel: Path, folder: Path) -> str:
    """Installed without its extras into an empty environment, it imports every name and answers; what it printed."""
    python = environment(folder / "venv")
    install(python, wheel)
    (folder / "try.py").write_text(RUN, encoding="utf-8")
    done = subprocess.run([python, "-I", "-W", "error", "try.py"], cwd=folder, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    run(python.with_name("power-loop"), "--help")
    return done.stdout.strip()


def lowest(arguments: list[str]) -> int:
    """The tests with the lowest versions of everything that the extras name."""
    python = ROOT / ".venv-lowest" / "bin" / "python"
    if not python.exists():
        environment(python.parent.parent)
    install(python, "uv")  # pip chooses the newest versions only
    run(python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct", "-e", ".[dev]")
    # What old packages warn of among themselves is no fault of ours.
    pytest = [python, "-m", "pytest", "-o", "filterwarnings=default", *arguments]
    return subprocess.run(pytest, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=False).returncode


def main() -> int:
    if "--lowest" in sys.argv[1:]:
        return lowest([each for each in sys.argv[1:] if each != "--lowest"])
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as again:
        wheel, sdist = build(Path(made))
        twins = zip((wheel, sdist), build_again(Path(again), sdist), strict=True)
        wrong = [f"{one.name} is not the same when it is built again" for one, other in twins if digest(one) != digest(other)]
        wrong += look(wheel, sdist)
        print("\n".join([f"{each.name}  {each.stat().st_size} bytes  sha256 {digest(each)}" for each in (wheel, sdist)]))
        print("\n".join(other_tools(wheel, sdist)))
        print(runs_alone(wheel, Path(made)))
        print("\n".join(wrong) or "fit for release")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
