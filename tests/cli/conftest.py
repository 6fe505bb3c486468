"""Commands run in this process: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from power_loop.cli import main


class Commands:
    """Commands on one database in a folder of their own, with the offline echo as the model."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.dsn = str(folder / "app.db")

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)"""
        try:
            code = main([*words, "--dsn", self.dsn])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        code, out, err = self(*words, "--json")
        assert (code, err) == (0, ""), (out, err)
        return json.loads(out)


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    for name in ("DSN", "API_KEY", "BASE_URL", "MODEL", "WORKSPACE"):
        monkeypatch.delenv(f"POWER_LOOP_{name}", raising=False)
    monkeypatch.setenv("POWER_LOOP_PROVIDER", "echo")
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path, capsys)
