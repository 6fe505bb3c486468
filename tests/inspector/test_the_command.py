"""``power-loop inspect`` starts where there is something to look at, and says what is missing where there is not."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from power_loop.cli import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["inspect", *arguments])
    return code, capsys.readouterr().err


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "--dsn", str(tmp_path / "none.db"))
    assert (code, "there is no database" in text, list(tmp_path.iterdir())) == (3, True, [])


def test_a_file_that_is_no_store_of_this_version_is_named_and_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.db"
    empty.write_bytes(b"")
    code, text = said(capsys, "--dsn", str(empty))
    assert (code, "schema" in text.lower() or "tables" in text.lower()) == (1, True)
    assert empty.read_bytes() == b""


def test_a_port_that_is_taken_is_named(file_place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, text = said(capsys, "--dsn", file_place.dsn, "--port", port)
    assert (code, port in text) == (2, True)


# acceptance: 7
def test_without_its_extra_it_names_what_to_install(
    file_place: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("power_loop.inspector.server", "power_loop.inspector.app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, text = said(capsys, "--dsn", file_place.dsn)
    assert (code, "power-loop[inspect]" in text) == (1, True)
