"""A fork is a session of its own from there on."""

from __future__ import annotations

import asyncio
import json

import pytest
from operating import Place, folding

from power_loop import SessionNotFoundError
from power_loop.contracts.watch import PassingText
from power_loop.store.watch import TEXT_KEY
from power_loop.testing import call, hang


# acceptance: 150
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_fork_sends_what_the_original_would_have_sent_after_that_send(memory_place: Place, at: int) -> None:
    place = memory_place
    texts = ["one", "two", "three"]
    asked = await place.requests_of([*texts[:at], "What next?"])
    session = await place.said(*texts)
    twin = await place.store.fork_session(session, at_send=at)
    assert await place.next_requests(twin) == asked[-1:]


# acceptance: 150 (a fold)
async def test_a_fork_before_a_fold_has_the_originals_and_one_after_it_the_summary(memory_place: Place) -> None:
    place = memory_place
    config = folding()
    loop = place.loop("a" * 800, "<summary>It was a.</summary>", "b", "c", config=config)
    session = await loop.new_session()
    for text in ("one", "two", "three"):
        await loop.send(text, session)
    early, late = [await place.store.fork_session(session, at_send=at) for at in (1, 3)]
    assert [row.content for row in await place.store.load_active_messages(early)] == ["one", "a" * 800]
    assert await place.store.list_compactions(early) == []
    assert await place.next_requests(late, config=config) == await place.next_requests(session, config=config)


# acceptance: 150 (independent)
async def test_later_sends_on_either_do_not_touch_the_other(place: Place) -> None:
    session = await place.said("one")
    await place.store.set_runtime_state(session, "n", 1)
    twin = await place.store.fork_session(session)
    before = await place.store.export_session(session)
    await place.loop("a", "b").send("only here", twin)
    await place.store.set_runtime_state(twin, "n", 2)
    await place.store.add_note(twin, "mine")
    after = await place.store.export_session(session)
    assert {**after, "exported_at": 0} == {**before, "exported_at": 0}
    await place.store.close_session(session)
    assert await place.store.get_runtime_state(twin, "n") == 2
    assert (await place.loop("c").send("still there", twin)).send_index == 3


async def test_the_origin_stands_in_the_metadata(place: Place) -> None:
    session = await place.loop().new_session(metadata={"user": "u1", "a": 1}, system_prompt="Be kind.")
    await place.loop("hi").send("one", session)
    twin = await place.store.fork_session(session, metadata={"a": 2}, system_prompt="Be short.")
    row = await place.store.get_session(twin)
    assert (row.kind, row.parent_session_id, row.system_prompt) == ("root", None, "Be short.")
    assert row.metadata == {"user": "u1", "a": 2, "forked_from": session, "forked_at_send": 1}
    assert [each.session_id for each in await place.store.list_sessions(metadata={"forked_from": session})] == [twin]


async def test_a_send_under_way_is_not_forked_and_no_other_send_is_invented(memory_place: Place) -> None:
    place = memory_place
    session = await place.said("one")
    loop = place.loop(call("look", at="Rome"), hang())
    task = asyncio.create_task(loop.send("two", session))
    while (await place.store.look(session)).head < 6:
        await asyncio.sleep(0)
    twin = await place.store.fork_session(session)
    assert [row.content for row in await place.store.load_all_messages(twin)] == ["one", "answer 1"]
    for at, words in ((2, "no send 2 that ended; these have: 1"), (9, "no send 9"), (0, "no send 0")):
        with pytest.raises(ValueError, match=words):
            await place.store.fork_session(session, at_send=at)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(SessionNotFoundError):
        await place.store.fork_session("gone")


async def test_a_session_without_a_send_is_forked_as_it_is(memory_place: Place) -> None:
    place = memory_place
    session = await place.loop().new_session(system_prompt="Be kind.")
    twin = await place.store.fork_session(session)
    assert (await place.store.get_session(twin)).system_prompt == "Be kind."
    assert (await place.store.look(twin)).head == 0


async def test_what_a_model_is_writing_right_now_stays_behind(place):
    loop = place.loop("one", "two")
    session = await loop.new_session()
    await loop.send("a", session)
    await place.store.show_text(session, PassingText("somebody", "call", 2, 0, 3))
    fork = await place.store.fork_session(session)
    assert await place.store.get_runtime_state(session, TEXT_KEY) is not None
    assert await place.store.get_runtime_state(fork, TEXT_KEY) is None
    assert TEXT_KEY not in json.dumps(await place.store.export_session(session))
