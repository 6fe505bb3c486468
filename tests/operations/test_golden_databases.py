"""Databases of every released schema version open on every engine, keep all their data, and their unfinished sends go on."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import engines
import pytest
from operating import Place, look, mail

from power_loop import HumanInputRequired, open_store, tool
from power_loop.contracts.store import Statement
from power_loop.store.migrate import bring_up, script
from power_loop.store.open import open_database
from power_loop.store.tables import SCHEMA
from power_loop.testing import check_invariants

# Numbers that the engine gives out: given by hand they would not count as given out.
TABLES = [table for step in SCHEMA.migrations for table in step.tables]
COUNTED = {(table.name, column.name) for table in TABLES for column in table.columns if column.type == "auto"}
GOLDEN = sorted(Path(__file__).parent.glob("golden/*.json"))


@tool
def ask(what: str) -> str:
    """Ask a person."""
    raise HumanInputRequired(what)


async def filled(dsn: str, golden: dict[str, Any]) -> Any:
    """A database as that version left it: its tables, not those of today, with the golden rows."""
    opened = await open_database(dsn, table_prefix="other_")
    statements = [Statement(sql) for sql in script(opened.dialect, "pl_", SCHEMA.up_to(golden["version"]))]
    await opened.database.write(statements)
    batch: list[Statement] = []
    for table, (columns, rows) in contents(golden).items():
        into = f"INSERT INTO pl_{table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        batch += [Statement(into, row) for row in rows]
    await opened.database.write(batch)
    return opened


def contents(golden: dict[str, Any]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """(columns, rows) of each table, without what an engine numbers by itself."""
    found: dict[str, tuple[list[str], list[list[Any]]]] = {}
    for table, content in golden["tables"].items():
        kept = [at for at, name in enumerate(content["columns"]) if (table, name) not in COUNTED]
        rows = [[bytes_or_as_is(row[at]) for at in kept] for row in content["rows"]]
        found[table] = ([content["columns"][at] for at in kept], rows)
    found.pop("schema_migrations")
    return found


def bytes_or_as_is(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


@pytest.fixture(params=engines.FILES_AND_SERVERS)
async def aged(request: pytest.FixtureRequest, tmp_path: Path, golden: dict[str, Any]) -> Any:
    """The golden database, opened by the code of today."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        opened = await filled(dsn, golden)
        await opened.database.close()
        place = Place(request.param, dsn, await open_store(dsn))
        yield place
        await place.close()
        assert await check_invariants(place.store) == []
        await place.store.close()


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_the_present_version_has_a_golden_database() -> None:
    assert str(SCHEMA.version) in {path.stem for path in GOLDEN}, "run scripts/golden.py --write"


# acceptance: 80 (all data kept)
async def test_all_data_are_kept(aged: Place, golden: dict[str, Any]) -> None:
    for table, (columns, rows) in contents(golden).items():
        found = await aged.store.database.read(f"SELECT {', '.join(columns)} FROM pl_{table}")
        assert sorted(repr(list(row)) for row in found) == sorted(repr(row) for row in rows), table
    assert await aged.store.database.read("SELECT version FROM pl_schema_migrations") == [(SCHEMA.version,)]
    await bring_up(aged.store.database, aged.store.dialect, prefix="pl_")


# acceptance: 80 (resumed mid-run)
async def test_an_unfinished_send_is_resumed_where_it_stood(aged: Place) -> None:
    asked = await aged.next_requests("mid-run", verb="resume")
    messages = asked[0]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[2]["content"] == "Rome is fine", "what may run again ran again"
    assert messages[3]["content"].startswith("Outcome unknown. mail"), "what may not is reported"
    assert (await aged.store.look("mid-run")).holder is None
    [cut_off] = await aged.next_requests("cut-off", verb="resume")
    assert [message["content"] for message in cut_off["messages"][-2:]] == ["and then?", "<follow_up>\nhurry\n</follow_up>"]


# acceptance: 80 (finished, folded, waiting)
async def test_finished_folded_and_waiting_sessions_go_on(aged: Place) -> None:
    store = aged.store
    [request] = await aged.next_requests("finished")
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert request["messages"][0]["content"] == "äß漢字\U0001f600 a\0b"
    [folded] = await aged.next_requests("folded")
    assert folded["messages"][0]["content"].endswith("They spoke of Rome.")
    assert len(folded["messages"]) == 4
    result = await aged.loop("Painted blue.", tools=[ask, look, mail]).submit_input("waiting", "q1", "blue")
    assert (result.status, result.final_text) == ("completed", "Painted blue.")
    assert [note.content for note in await store.list_notes("finished")] == ["likes Rome"]
    assert [timer.interval_s for timer in await store.list_timers("folded")] == [60.0]
    assert [child.session_id for child in await store.list_children("finished")] == ["child"]
    twin = await store.import_session(json.loads(json.dumps(await store.export_session("finished", include_children=True))))
    assert await store.close_session(twin) == 2
