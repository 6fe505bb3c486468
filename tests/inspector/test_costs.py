"""What a page costs where there is much to look at: few statements, each along a key; what is dear for each session comes slice by slice.

How long they take on 100,000 sessions is measured by `bench/inspector.py`.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from power_loop.inspector import glance, lines
from power_loop.inspector.lines import Lines, Slice
from power_loop.store.postgres_text import numbered
from power_loop.testing import FunctionLLM

# The statements of each page, and how many of them pass over the thin rows of all sessions.
PAGES = {
    "sessions": (3, 1), "sessions?agent=agent": (3, 1), "sessions?archived=0": (3, 1), "sessions?running=1": (1, 1),
    "sessions?q=acme": (4, 0), "sessions?kind=root": (4, 0), "sessions?q=acme&kind=root&at=9999999999999&id=x": (4, 0),
    "session?id=demo": (12, 0), "timeline?id=demo": (2, 0), "timeline?id=demo&send=1": (4, 0), "doctor?id=demo": (9, 0),
    "record?id=demo&seq=2": (1, 0), "request?id=demo&seq=6": (6, 0), "charts": (2, 1), "charts?id=demo": (1, 0), "days": (2, 0),
    "workflow?id=demo": (2, 0),
}  # fmt: skip


async def statements(place: Any, page: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the page asks of the database."""
    asked: list[tuple[str, Any]] = []
    database = type(place.store.database)
    plain = database.read

    async def noted(self: Any, sql: str, params: Any = ()) -> Any:
        asked.append((sql, params))
        return await plain(self, sql, params)

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", noted)
        assert (await place.browser.get(f"/api/{page}")).status in (200, 404)
    return asked


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_asks_few_statements(file_place: Any, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(await statements(file_place, page, monkeypatch)) <= PAGES[page][0]


async def scans(place: Any, sql: str, params: Any) -> list[str]:
    """The steps of the plan that run through a whole table: on PostgreSQL, those that have no index to go along."""
    if place.dsn.startswith("postgresql"):
        connection = await asyncpg.connect(place.dsn)
        try:
            await connection.execute("SET enable_seqscan = off")
            plan = [row[0] for row in await connection.fetch(f"EXPLAIN {numbered(sql)}", *params)]
        finally:
            await connection.close()
        return [step for step in plan if "Seq Scan" in step]
    plan = [row[-1] for row in await place.store.database.read(f"EXPLAIN QUERY PLAN {sql}", params)]
    return [step for step in plan if step.startswith("SCAN") and not step.startswith(("SCAN t", "SCAN CONSTANT"))]


async def test_no_page_runs_through_a_table_but_for_one_pass_over_the_thin_rows(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.dsn.startswith("mysql"):
        pytest.skip("it runs through small tables whatever their indexes; `bench/inspector.py` measures it")
    for page, (_, passes) in PAGES.items():
        found = [(sql, await scans(place, sql, params)) for sql, params in await statements(place, page, monkeypatch)]
        whole = [(sql, plan) for sql, plan in found if plan]
        assert len(whole) <= passes, (page, whole)
        assert not [plan for sql, plan in whole if any("records" in step or "info" in step for step in plan)], page


# --- slices -----------------------------------------------------------------------------------------------


async def sliced(place: Any, page: str) -> list[Any]:
    """The answers for all slices."""
    answers = [(await place.browser.get(f"/api/{page}&after=")).json]
    while answers[-1]["further"] is not None:
        answers.append((await place.browser.get(f"/api/{page}&after={answers[-1]['further']}")).json)
    return answers


async def test_a_search_finds_each_session_once_slice_by_slice(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "SLICE", 7)
    for n in range(30):
        await place.loop.new_session(session_id=f"{n * 7919 % 31}-of-them", metadata={"tenant": f"t{n % 3}"})
    answers = await sliced(place, "sessions?q=t1")
    assert len(answers) == 5
    assert sorted(line["session_id"] for answer in answers for line in answer["sessions"]) == sorted(
        f"{n * 7919 % 31}-of-them" for n in range(30) if n % 3 == 1
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1_000])
async def test_the_sums_of_slices_are_the_sums_of_all(file_place: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    async def sums() -> tuple[int, int]:
        answers = await sliced(file_place, "days?")
        return sum(sum(answer["days"]["sessions"]) for answer in answers), sum(sum(answer["days"]["input"]) for answer in answers)

    await file_place.loop.new_session(session_id="silent")
    loop = type(file_place.loop)(llm=FunctionLLM(lambda request: "yes"), store=file_place.store)
    for name in ("one", "two"):
        await loop.send("go", await loop.new_session(session_id=name))
    whole = await sums()
    monkeypatch.setattr(lines, "SLICE", size)
    assert (await sums(), whole[0]) == (whole, 3)
    await loop.aclose()


async def test_a_slice_is_found_behind_the_last_session_too(file_place: Any) -> None:
    reads = Lines(file_place.store.database, file_place.store.dialect, "pl_", file_place.store.clock, file_place.store.ids)
    assert await reads.slice_after("zzz") == Slice("zzz", None)


# --- what is read of one session ----------------------------------------------------------------------------


async def test_of_a_long_history_the_doctor_looks_at_the_last_send_and_says_so(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.loop.enqueue("later", "demo")
    whole = (await place.browser.get("/api/doctor?id=demo")).json
    monkeypatch.setattr(glance, "READ_ROWS", 10)
    long = (await place.browser.get("/api/doctor?id=demo")).json
    assert (whole["left_out"], long["left_out"] > 0) == (0, True)
    assert [(found["state"], [each["code"] for each in found["findings"]]) for found in (long, whole)] == [("idle", ["inbox_waiting"])] * 2


@pytest.mark.parametrize("children", [1, 40])
async def test_a_family_is_asked_for_generation_by_generation(file_place: Any, monkeypatch: pytest.MonkeyPatch, children: int) -> None:
    for n in range(children):
        await file_place.store.create_session(session_id=f"child-{n}", parent_session_id="demo", kind="subagent")
    asked = await statements(file_place, "session?id=demo", monkeypatch)
    family = (await file_place.browser.get("/api/session?id=child-0")).json["tree"]
    assert (len(asked) <= PAGES["session?id=demo"][0] + 1, len(family)) == (True, 1 + children)
