"""What is forgotten on request, and that nothing else is."""

from __future__ import annotations

import pytest
from operating import Place, folding

from power_loop import MessageState, SessionNotFoundError
from power_loop.contracts.store import Statement
from power_loop.testing import call

YEAR_MS = 365 * 24 * 3600 * 1000


async def with_a_fold(place: Place) -> str:
    """Five sends, of which the first ones are folded; the first had a tool call."""
    loop = place.loop(call("look", at="Rome"), "a" * 800, "<summary>It was a.</summary>", "b", "c", "d", config=folding())
    session = await loop.new_session()
    for text in ("one", "two", "three", "four"):
        await loop.send(text, session)
    return session


# acceptance: 85
async def test_only_folded_originals_are_emptied_and_requests_stay_as_they_are(place: Place) -> None:
    store, session = place.store, await with_a_fold(place)
    twin = await store.fork_session(session)
    stats, folds = await store.get_session_stats(session), await store.list_compactions(session)
    before = await store.load_all_messages(session)
    covered = [row for row in before if row.state == MessageState.COMPACTED_OUT]
    assert covered
    assert await store.prune_compacted_messages(session) == len(covered)
    after = await store.load_all_messages(session)
    assert [(row.seq, row.role, row.tool_call_id, row.send_index) for row in after] == [
        (row.seq, row.role, row.tool_call_id, row.send_index) for row in before
    ]
    assert {(row.content, row.state) for row in after[: len(covered)]} == {("", MessageState.DROPPED)}
    assert "Rome" not in str(after)
    assert after[len(covered) :] == before[len(covered) :]
    assert (await store.get_session_stats(session), await store.list_compactions(session)) == (stats, folds)
    assert await store.prune_compacted_messages(session) == 0
    config = folding()
    assert await place.next_requests(session, config=config) == await place.next_requests(twin, config=config)


async def test_a_pruned_session_is_exported_imported_and_forked_like_any_other(memory_place: Place) -> None:
    place = memory_place
    store, session = place.store, await with_a_fold(place)
    await store.prune_compacted_messages(session)
    moved = await store.import_session(await store.export_session(session))
    forked = await store.fork_session(session)
    config = folding()
    asked = [await place.next_requests(one, config=config) for one in (session, moved, forked)]
    assert asked[0] == asked[1] == asked[2]


async def test_the_newest_and_the_younger_originals_may_be_kept(memory_place: Place) -> None:
    place = memory_place
    store, session = place.store, await with_a_fold(place)
    covered = [row for row in await store.load_all_messages(session) if row.state == MessageState.COMPACTED_OUT]
    assert await store.prune_compacted_messages(session, older_than_ms=YEAR_MS) == 0
    assert await store.prune_compacted_messages(session, older_than_ms=covered[0].created_at - 1) == 0
    assert await store.prune_compacted_messages(session, keep_recent=len(covered)) == 0
    assert await store.prune_compacted_messages(session, keep_recent=1, older_than_ms=0) == len(covered) - 1
    assert (await store.load_all_messages(session))[len(covered) - 1].content == covered[-1].content
    for wrong in ({"keep_recent": -1}, {"older_than_ms": -1}):
        with pytest.raises(ValueError, match=r"must be"):
            await store.prune_compacted_messages(session, **wrong)
    with pytest.raises(SessionNotFoundError):
        await store.prune_compacted_messages("gone")


async def test_details_of_usage_go_and_sums_stay(place: Place) -> None:
    store, session = place.store, await with_a_fold(place)
    stats, usage = await store.get_session_stats(session), await store.list_usage(session)
    with pytest.raises(ValueError, match="keep_last= or older_than_ms="):
        await store.prune_usage_rounds(session)
    assert await store.prune_usage_rounds(session, keep_last=2) == len(usage) - 2
    assert await store.list_usage(session) == usage[-2:]
    assert await store.get_session_stats(session) == stats
    assert await store.prune_usage_rounds(session, keep_last=2) == 0
    assert await store.prune_usage_rounds(session, older_than_ms=0) == 1, "the last send keeps its own"


async def test_old_sessions_go_with_all_that_hangs_under_them(place: Place) -> None:
    store = place.store
    for name in ("old", "kept", "active"):
        await store.create_session(session_id=name)
    await store.create_session(session_id="kid", parent_session_id="old", kind="subagent", lifecycle="linked")
    await store.archive_session("kid")
    for name in ("old", "kept"):
        await store.archive_session(name)
    await store.database.write([Statement("UPDATE pl_sessions SET updated_at = 5 WHERE session_id IN ('old', 'active')")])
    assert await store.prune_sessions(older_than_ms=YEAR_MS) == 2
    assert sorted(row.session_id for row in await store.list_sessions()) == ["active", "kept"]
    assert await store.prune_sessions(older_than_ms=YEAR_MS, status="active") == 1
    with pytest.raises(ValueError, match="odd"):
        await store.prune_sessions(older_than_ms=0, status="odd")


async def test_keys_of_the_past_are_forgotten_and_those_of_what_waits_are_not(place: Place) -> None:
    store = place.store
    loop = place.loop("one", "two")
    session = await loop.new_session()
    await loop.send("a", session, key="k1")
    await loop.send("b", session, key="k2")
    await loop.enqueue("c", session, key="k3")
    assert await store.prune_keys(older_than_ms=YEAR_MS) == 0
    assert await store.prune_keys(older_than_ms=0) == 1
    assert await store.send_of_key(session, "k1") is None
    assert await store.send_of_key(session, "k2") == 2
    assert [item.key for item in await store.inbox(session)] == ["k3"]
