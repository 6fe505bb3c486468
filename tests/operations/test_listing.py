"""Listing the sessions of a store, whatever their number."""

from __future__ import annotations

import pytest
from operating import Place

from power_loop.store import sessions


async def test_sessions_with_some_metadata_are_found_page_by_page(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "PAGE", 3)
    reads: list[int] = []
    read = place.store.database.read

    async def counted(sql, params=()):
        rows = await read(sql, params)
        reads.append(len(rows))
        return rows

    created = [await place.store.create_session(metadata={"tenant": "ab"[n % 2], "n": str(n)}) for n in range(9)]
    monkeypatch.setattr(place.store.database, "read", counted)
    every = [row.session_id for row in await place.store.list_sessions()]
    assert sorted(every) == sorted(created)
    reads.clear()
    ours = [row.session_id for row in await place.store.list_sessions(metadata={"tenant": "a"})]
    assert ours == [session for session in every if created.index(session) % 2 == 0]
    assert reads == [3, 3, 3, 0], "never more than a page at once"
    assert [row.session_id for row in await place.store.list_sessions(metadata={"tenant": "a", "n": "4"})] == [created[4]]
    reads.clear()
    assert len(await place.store.list_sessions(metadata={"tenant": "a"}, limit=1)) == 1
    first = next(at for at, session in enumerate(every) if created.index(session) % 2 == 0)  # of one millisecond, any may be the newest
    assert len(reads) == 1 + first // 3, "no further than the limit"


async def test_a_status_that_no_session_has_is_refused(memory_place: Place) -> None:
    with pytest.raises(ValueError, match="'Archived'; it must be 'active' or 'archived'"):
        await memory_place.store.list_sessions(status="Archived")


@pytest.mark.parametrize("odd", [{"kind": "branch"}, {"lifecycle": "forever"}])
async def test_a_kind_or_lifecycle_that_no_session_has_is_refused(memory_place: Place, odd: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        await memory_place.store.create_session(**odd)
    assert not await memory_place.store.list_sessions()
