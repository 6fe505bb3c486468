"""What an import makes of archives that other programs wrote, and of what stands beside the words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from operating import Place

from power_loop import ToolHandlerResult, tool
from power_loop.testing import call, calls


def older(*compactions: dict[str, Any]) -> dict[str, Any]:
    """An archive of the 3.x line: three sends, each a word and its answer, the numbers from 10 on."""
    said = [("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("user", "three"), ("assistant", "3")]
    messages = [{"seq": seq, "role": role, "content": text} for seq, (role, text) in enumerate(said, 10)]
    return {"session": {"session_id": "old"}, "messages": messages, "compactions": list(compactions)}


def compaction(to_seq: int, summary: str) -> dict[str, Any]:
    return {"from_seq": 10, "to_seq": to_seq, "summary": summary}


@pytest.mark.parametrize(
    ("compactions", "folds", "shown"),
    [
        ([compaction(13, "SUMMARY of both"), compaction(11, "less")], 1, "SUMMARY of both"),
        ([compaction(11, "less"), compaction(13, "SUMMARY of both")], 2, "SUMMARY of both"),
        ([compaction(10, "SUMMARY of half a send")], 0, "one"),
    ],
    ids=["one that covers less than another", "one after the other", "one that ends within the first send"],
)
async def test_of_older_compactions_those_count_that_cover_whole_sends_not_covered_yet(
    memory_place: Place, compactions: list[dict[str, Any]], folds: int, shown: str
) -> None:
    session = await memory_place.store.import_session(older(*compactions))
    assert len(await memory_place.store.list_compactions(session)) == folds
    [request] = await memory_place.next_requests(session)
    assert shown in str(request["messages"][0])
    assert ("SUMMARY" in shown) == ("'one'" not in str(request["messages"]))


@tool(effects="pure")
def measure() -> ToolHandlerResult:
    """Measure something."""
    return ToolHandlerResult(True, "42", {"blob": "round", "uncut": "yes"})


async def test_data_of_a_tool_may_have_names_that_the_store_uses_itself(memory_place: Place) -> None:
    loop = memory_place.loop(calls(call("measure")), "fine", tools=[measure])
    session = await loop.new_session()
    await loop.send("go", session)
    [row] = [row for row in await memory_place.store.load_all_messages(session) if row.role == "tool"]
    assert row.content == "42"
    assert await memory_place.store.load_output(session, row.tool_call_id or "") == "42"


async def test_bodies_and_calls_may_stand_in_an_archive_as_objects(memory_place: Place) -> None:
    place = memory_place
    loop = place.loop(calls(call("look", at="Rome")), "fine")
    session = await loop.new_session()
    await loop.send("go", session)
    archive = json.loads(json.dumps(await place.store.export_session(session)))
    written_out = json.loads(json.dumps(archive))
    for record in written_out["records"]:
        for name in record.keys() & {"body", "tool_calls"}:
            record[name] = json.loads(record[name])
    assert written_out != archive
    twins = [await place.store.import_session(each) for each in (archive, written_out)]
    assert await place.next_requests(twins[0]) == await place.next_requests(twins[1])


async def test_the_key_of_a_send_stands_for_it_in_a_copy_too(place: Place) -> None:
    loop = place.loop("first", "second")
    session = await loop.new_session()
    await loop.send("Hello.", session, key="a")
    twin = await place.store.import_session(await place.store.export_session(session))
    assert (await loop.send("Hello.", twin, key="a")).final_text == "first"
    assert (await loop.send("Hello.", twin, key="b")).final_text == "second"
