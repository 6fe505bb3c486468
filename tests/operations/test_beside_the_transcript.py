"""What stands beside the records, on every engine: results that came late, and requests that were kept whole."""

from __future__ import annotations

from operating import Place, folding

from power_loop import RunPolicy
from power_loop.contracts.late import LateResult

ODD = "äß漢字\U0001f600 a\0b \ud800"


async def test_late_results_are_read_as_they_were_kept_with_the_answer_of_their_call(place: Place) -> None:
    store, session = place.store, await place.said("one")
    blocks = [{"type": "text", "text": ODD}]
    for call_id, output in (("c1", ODD), ("c2", blocks)):
        await store.keep_late_result(session, LateResult(call_id, 1, f"key of {call_id}", "ok", output, "look"), epoch=7)
    found = await store.late_results(session)
    assert [(late.call_id, late.key, late.output, late.name, late.answered) for late in found] == [
        ("c1", "key of c1", ODD, "look", None),
        ("c2", "key of c2", blocks, "look", None),
    ]
    assert await store.prune_keys(older_than_ms=0) >= 2
    assert await store.late_results(session) == []


async def test_nothing_is_kept_for_a_session_that_is_gone(place: Place) -> None:
    await place.store.keep_late_result("gone", LateResult("c1", 1, "key", "ok", "found"), epoch=1)
    assert await place.store.late_results("gone") == []


async def test_requests_that_show_what_was_emptied_are_deleted(place: Place) -> None:
    config = folding(running=RunPolicy(keep_requests=True))
    loop = place.loop("a" * 800, "<summary>It was about a.</summary>", "b", "c", config=config)
    session = await loop.new_session()
    for text in ("one", "two", "three"):
        await loop.send(text, session)
    count = "SELECT COUNT(*) FROM pl_blobs WHERE digest LIKE 'request:%'"
    assert await place.count(count) == 3
    assert await place.store.prune_compacted_messages(session) > 0
    assert await place.count(count) < 3
