"""Sessions out of a store and into one: nothing that a model would see is lost, and nothing unsound comes in."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from operating import Place, folding

from power_loop import HumanInputRequired, SessionNotFoundError, open_store, tool
from power_loop.store.notes import NOTES_KEY
from power_loop.testing import call, calls, check_invariants, hang, say

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
ODD = "äß漢字\U0001f600 a\0b \ud800"


@tool
def ask(what: str) -> str:
    """Ask a person."""
    raise HumanInputRequired(what)


async def many_sends(place: Place) -> tuple[str, dict[str, Any]]:
    loop = place.loop(calls(call("look", at="Rome"), call("look", at="Oslo")), ODD, "b", say("c", think="hm", provider_blocks=[{"s": 1}]))
    session = await loop.new_session(system_prompt="Be kind, 漢字.", metadata={"user": "u1"})
    for text in ("one", ODD, [{"type": "text", "text": "What is this?"}, IMAGE]):
        await loop.send(text, session)
    return session, {}


async def folded(place: Place) -> tuple[str, dict[str, Any]]:
    config = folding()
    loop = place.loop("a" * 800, "<summary>It was about a.</summary>", "b", "c", config=config)
    session = await loop.new_session()
    for text in ("one", "two", "three"):
        await loop.send(text, session)
    assert await place.store.list_compactions(session)
    return session, {"config": config}


async def cut_off(place: Place) -> tuple[str, dict[str, Any]]:
    """Two calls answered by one result, the other begun."""
    begun = asyncio.Event()

    @tool(parallel=True)
    async def mail(to: str) -> str:
        """Send a mail."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    loop = place.loop(calls(call("mail", to="bob"), call("look", at="Rome")), tools=[mail, *place.tools[:1]])
    session = await loop.new_session()
    task = asyncio.create_task(loop.send("go", session))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return session, {"verb": "resume"}


LIVES: dict[str, Callable[[Place], Any]] = {"many sends": many_sends, "a fold": folded, "calls without a result": cut_off}


# acceptance: 84
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
async def test_the_next_request_of_an_import_is_the_one_of_the_original(place: Place, life: Callable[[Place], Any]) -> None:
    session, how = await life(place)
    archive = json.loads(json.dumps(await place.store.export_session(session)))
    twin = await place.store.import_session(archive)
    assert twin != session
    assert await place.next_requests(twin, **how) == await place.next_requests(session, **how)
    assert (await place.store.get_session_stats(twin)) is not None


# acceptance: 84 (another database)
async def test_an_archive_moves_to_another_database_with_all_its_figures(place: Place) -> None:
    session, _ = await many_sends(place)
    await place.store.add_note(session, "remember")
    await place.store.set_runtime_state(session, "n", {"null": None, "text": ODD})
    archive = json.loads(json.dumps(await place.store.export_session(session)))
    other = await open_store(":memory:")
    twin = await other.import_session(archive, new_session_id="moved/1")
    row = await other.get_session(twin)
    assert (twin, row.metadata, row.kind, row.parent_session_id) == ("moved/1", {"user": "u1"}, "root", None)
    assert [note.content for note in await other.list_notes(twin)] == ["remember"]
    assert await other.get_runtime_state(twin, "n") == {"null": None, "text": ODD}
    stats, theirs = await place.store.get_session_stats(session), await other.get_session_stats(twin)
    assert stats is not None
    assert theirs is not None
    assert stats[1:10] == theirs[1:10]
    assert [usage[1:] for usage in await other.list_usage(twin)] == [usage[1:] for usage in await place.store.list_usage(session)]
    assert await check_invariants(other) == []
    again = await other.export_session(twin)
    assert again["records"] == archive["records"]
    await other.close()


async def test_a_question_to_a_person_is_answered_in_the_import(memory_place: Place) -> None:
    place = memory_place
    loop = place.loop(call("ask", what="Which colour?"), tools=[ask])
    session = await loop.new_session()
    assert (await loop.send("Paint it.", session)).status == "waiting_for_input"
    twin = await place.store.import_session(await place.store.export_session(session))
    after = place.loop("Painted.", tools=[ask])
    [question] = (await after.get_pending(twin) or {})["pending_interactions"]
    result = await after.submit_input(twin, question["interaction_id"], "blue")
    assert (result.status, result.final_text) == ("completed", "Painted.")
    assert (await loop.get_pending(session)) is not None


# acceptance: 84 (one snapshot)
async def test_an_export_beside_a_running_send_is_one_moment_of_it(place: Place) -> None:
    loop = place.loop(*(call("look", at=str(n)) for n in range(30)), "done")
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session, max_rounds=40))
    exports: list[dict[str, Any]] = []
    while not sending.done():
        exports.append(await place.store.export_session(session))
        await asyncio.sleep(0)
    await sending
    assert len({len(export["records"]) for export in exports}) > 1
    for export in exports:
        twin = await place.store.import_session(export)
        assert (await place.store.look(twin)).holder is None


# acceptance: 84 (the tree)
async def test_a_tree_comes_back_as_a_tree(place: Place) -> None:
    store = place.store
    top = await store.create_session(session_id="top")
    child = await store.create_session(
        parent_session_id=top, kind="subagent", lifecycle="linked", spawn_tool_call_id="c1", session_id="kid"
    )
    await store.create_session(parent_session_id=child, kind="subagent", session_id="grandkid")
    await place.loop("hi").send("hello", "grandkid")
    assert (await store.export_session(top))["children"] == []
    archive = await store.export_session(top, include_children=True)
    twin = await store.import_session(archive)
    [kid] = await store.list_children(twin)
    [grandkid] = await store.list_children(kid.session_id)
    assert (kid.kind, kid.lifecycle, kid.spawn_tool_call_id, kid.spawn_depth, grandkid.spawn_depth) == ("subagent", "linked", "c1", 1, 2)
    assert [row.content for row in await store.load_all_messages(grandkid.session_id)] == ["hello", "hi"]
    alone = await store.import_session(await store.export_session(child))
    assert (await store.get_session(alone)).kind == "root"


async def test_leases_and_inbox_stay_behind(memory_place: Place) -> None:
    place = memory_place
    loop = place.loop(hang())
    session = await loop.new_session()
    task = asyncio.create_task(loop.send("go", session))
    while not (await place.store.look(session)).head:
        await asyncio.sleep(0)
    await loop.enqueue("more", session)
    twin = await place.store.import_session(await place.store.export_session(session))
    head = await place.store.look(twin)
    assert (head.holder, head.lease_until, head.waiting) == (None, 0, False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- what is refused -----------------------------------------------------------------------------


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set what stands at ``path`` to ``value``."""

    def change(archive: dict[str, Any]) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        inner: Any = archive
        for step in way:
            inner = inner[step]
        inner[last] = value

    return change


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(archive: dict[str, Any]) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        inner: Any = archive
        for step in way:
            inner = inner[step]
        del inner[last]

    return change


TIMER = {"due_at": 1, "note": "x"}
NOTE = {"id": 1, "content": "x", "pinned": False, "created_at": 1, "updated_at": 1}


def notes(*rows: Any) -> dict[str, Any]:
    """Small state in which these notes stand."""
    return {NOTES_KEY: {"next": len(rows) + 1, "notes": list(rows)}}


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no format": (without("format"), "its format is None"),
    "a newer version": (changed("version", 5), "version 5 was written by a newer power-loop"),
    "no records": (without("records"), "it has no records; it is truncated"),
    "cut at the end": (without("records.5"), "it has 5 of 6 records; it is truncated"),
    "a record missing in between": (lambda a: (without("records.2")(a), changed("head", 5)(a)), r"records\[2\] .*: follows seq 2"),
    "no seq": (without("records.3.seq"), r"archive.records\[3\]: it has no seq"),
    "text for a number": (changed("records.3.seq", "4"), r"records\[3\].seq: expected a whole number, found '4'"),
    "an unknown kind": (changed("records.1.kind", "model_dreamt"), r"records\[1\] \(model_dreamt\): .*model_dreamt"),
    "a newer record": (changed("records.1.version", 99), r"records\[1\] \(model_replied\): .*99"),
    "a record of another session": (changed("records.0.session_id", "other"), r"records\[0\]: it belongs to the session 'other'"),
    "a result of no call": (changed("records.2.call_id", "elsewhere"), r"records\[2\] \(tool_returned\): the call elsewhere is not open"),
    "a body that is no JSON": (changed("records.1.body", "{"), r"records\[1\] \(model_replied\): it cannot be read"),
    "a body that is no object": (changed("records.1.body", "[]"), r"records\[1\] \(model_replied\): it cannot be read"),
    "records that are no list": (changed("records", {}), "archive.records: expected a list, found dict"),
    "a record that is no object": (changed("records.1", 1), r"archive.records\[1\]: expected an object, found int"),
    "metadata that is no object": (changed("metadata", "x"), "archive.metadata: expected an object, found 'x'"),
    "half a character in a prompt": (changed("system_prompt", "\ud800"), "system_prompt holds a NUL character or a lone surrogate"),
    "a NUL in the name of an agent": (changed("agent", "a\0"), r"archive.agent holds a NUL character"),
    "a number for a text": (changed("records.1.name", 7), r"records\[1\].name: expected text, found 7"),
    "no kind": (changed("records.1.kind", None), r"records\[1\]: it has no kind or no version"),
    "no version": (changed("records.1.version", None), r"records\[1\]: it has no kind or no version"),
    "a fold of what comes after it": (
        lambda a: (a["records"].append(dict(a["records"][5], seq=7, kind="context_folded", body='{"through":7}')), changed("head", 7)(a)),
        r"records\[6\] \(context_folded\): it folds up to seq 7, which does not stand before it",
    ),
    "a blob that is no base64": (changed("blobs", [{"digest": "d", "data": "%"}]), r"archive.blobs\[0\].data: it is no base64"),
    "a cron timer without a zone": (changed("timers", [{"due_at": 1, "cron": "0 5 * * *"}]), r"archive.timers\[0\]: its cron has no tz"),
    "a cron timer of no time": (changed("timers", [{"due_at": 1, "cron": "often", "tz": "UTC"}]), r"archive.timers\[0\]: cron 'often'"),
    "a version that never was": (changed("records.1.version", -(2**70)), r"records\[1\].version: -1180591620717411303424 is too large"),
    "a version before the first": (changed("records.1.version", -(2**62)), r"records\[1\] \(model_replied\): .*no version -46"),
    "a number that no database keeps": (changed("records.1.created_at", 2**63), r"records\[1\].created_at: 92.* is too large"),
    "a count that no database keeps": (
        changed("records.1.body", '{"usage":[9223372036854775808,1]}'), r"records\[1\] \(model_replied\): with it the session counts"
    ),
    "a fold of less than nothing": (
        lambda a: (a["records"].append(dict(a["records"][5], seq=7, kind="context_folded", body='{"through":-7}')), changed("head", 7)(a)),
        r"records\[6\] \(context_folded\): it folds up to seq -7, which does not stand before it",
    ),
    "usage that is no number": (changed("records.1.body", '{"usage":["x"]}'), r"records\[1\] \(model_replied\): it cannot be read"),
    "a change that is no object": (
        lambda a: (a["records"].append(dict(a["records"][5], seq=7, kind="step_changed", body='{"change":7}')), changed("head", 7)(a)),
        r"records\[6\] \(step_changed\): it cannot be read",
    ),
    "a question that is no object": (
        lambda a: a["records"][2].update(kind="tool_parked", body='{"interaction":[]}'),
        r"records\[2\] \(tool_parked\): it waits with \[\], which is no object",
    ),
    "a key that is no text": (changed("records.0.body", '{"key":[1]}'), r"records\[0\] \(user_said\): it cannot be read"),
    "notes that are no object": (changed("state", {NOTES_KEY: []}), r"archive.state.power_loop:notes: expected an object, found \[\]"),
    "notes without a list": (changed("state", {NOTES_KEY: {"next": 1}}), "archive.state.power_loop:notes: it has no notes"),
    "notes without the next number": (changed("state", {NOTES_KEY: {"notes": []}}), "archive.state.power_loop:notes: it has no next"),
    "a note that is no object": (changed("state", notes(3.5)), r"power_loop:notes.notes\[0\]: expected an object, found float"),
    "a note without its text": (changed("state", notes({**NOTE, "content": None})), r"notes\[0\]: it has no content"),
    "a note with a number for a mark": (changed("state", notes({**NOTE, "pinned": 1})), r"notes\[0\].pinned: expected true or false"),
    "two notes of one number": (changed("state", notes(NOTE, NOTE)), r"notes\[1\].id: 1 does not stand between 1 and 3"),
    "a note with the next number": (changed("state", notes({**NOTE, "id": 2})), r"notes\[0\].id: 2 does not stand between 0 and 2"),
    "a timer of no interval": (changed("timers", [{**TIMER, "interval_ms": 0}]), r"archive.timers\[0\]: interval_s is 0.0"),
    "a timer of a short interval": (changed("timers", [{**TIMER, "interval_ms": 999}]), r"archive.timers\[0\]: interval_s is 0.999"),
    "a timer of a long interval": (changed("timers", [{**TIMER, "interval_ms": 2**62}]), r"archive.timers\[0\]: interval_s is "),
    "a timer of two rules": (
        changed("timers", [{**TIMER, "interval_ms": 5000, "cron": "0 5 * * *", "tz": "UTC"}]), r"archive.timers\[0\]: cron= says when"
    ),
    "a timer with nothing to say": (changed("timers", [{**TIMER, "note": " "}]), r"archive.timers\[0\]: a timer needs a note"),
    "a timer before all time": (changed("timers", [TIMER, {**TIMER, "due_at": -5}]), r"archive.timers\[1\]: due_at_ms is -5"),
    "a timer behind all time": (changed("timers", [{**TIMER, "due_at": 2**62}]), r"archive.timers\[0\]: due_at_ms is 4611686018427387904"),
    "a cron timer behind all time": (
        changed("timers", [{**TIMER, "due_at": 2**62, "cron": "0 5 * * *", "tz": "UTC"}]), r"archive.timers\[0\]: due_at is 46"
    ),
    "a timer counted from before all time": (changed("timers", [{**TIMER, "anchor_at": -5}]), r"archive.timers\[0\]: anchor_at is -5"),
    "a child of another parent": (
        lambda a: changed("children", [{**copy.deepcopy(a), "session_id": "x", "parent_session_id": "y"}])(a),
        r"archive.children\[0\]: it is a child of 'y', not of 's'",
    ),
    "a child with its parent's id": (
        lambda a: changed("children", [{**copy.deepcopy(a), "parent_session_id": "s"}])(a),
        "two of its sessions share an id",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
async def test_an_unsound_archive_is_refused_by_name_and_place_and_leaves_nothing(memory_place: Place, change: Any, words: str) -> None:
    place = memory_place
    store = place.store
    await store.create_session(session_id="s")
    await place.loop(calls(call("look", at="a"), call("look", at="b")), "done").send("hi", "s")
    archive = json.loads(json.dumps(await store.export_session("s")))
    change(archive)
    with pytest.raises(ValueError, match=words):
        await store.import_session(archive)
    assert [row.session_id for row in await store.list_sessions()] == ["s"]
    assert await place.count("SELECT COUNT(*) FROM {p}records WHERE session_id <> 's'") == 0


async def test_a_taken_or_malformed_id_is_refused(place: Place) -> None:
    await place.store.create_session(session_id="s")
    archive = await place.store.export_session("s")
    for name, words in (("s", "exists already"), ("no good", "use 1 to 191 characters"), ("", "use 1 to 191")):
        with pytest.raises(ValueError, match=words):
            await place.store.import_session(archive, new_session_id=name)
    with pytest.raises(ValueError, match="'skip' or 'keep'"):
        await place.store.import_session(archive, timers="some")
    with pytest.raises(ValueError, match="expected an object, found list"):
        await place.store.import_session([])  # type: ignore[arg-type]  # what a file may hold
    with pytest.raises(SessionNotFoundError):
        await place.store.export_session("gone")


# --- the 3.x line ------------------------------------------------------------------------------------


def theirs() -> dict[str, Any]:
    look = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "Rome"}'}}
    again = {**look, "id": "c9"}
    said = [
        ("user", "one", {}), ("assistant", "", {"tool_calls": [look]}), ("tool", "fine", {"tool_call_id": "c1", "name": "look"}),
        ("assistant", "Rome is fine.", {}), ("user", "two", {}), ("assistant", "", {"tool_calls": [{**look, "id": "c2"}]}),
        ("user", "no answer came", {}), ("tool", "an orphan", {"tool_call_id": "nobody"}), ("assistant", "right", {}),
        ("user", "Summary: Rome.", {"name": "compact_note"}), ("user", "four", {}), ("assistant", "", {"tool_calls": [again]}),
    ]  # fmt: skip
    messages = [
        {"seq": 10 + at, "role": role, "content": text, "created_at": 1000 + at, **more} for at, (role, text, more) in enumerate(said)
    ]
    return {
        "schema_version": 9,
        "session": {"session_id": "old", "system_prompt": "Be kind.", "metadata": {"user": "u"}, "kind": "root"},
        "messages": messages,
        "compactions": [{"compact_seq": 19, "note_seq": 19, "from_seq": 10, "to_seq": 14, "before_tokens": 9, "after_tokens": 3}],
        "notes": [{"note_id": 4, "content": "likes Rome", "pinned": True}],
        "stats": {"sends": 3, "prompt_tokens": 70, "completion_tokens": 7, "llm_calls": 6, "first_send_at": 1000, "last_send_at": 1011},
    }


async def test_an_archive_of_the_3x_line_becomes_a_session(place: Place) -> None:
    store = place.store
    session = await store.import_session(theirs())
    row = await store.get_session(session)
    assert (row.system_prompt, row.metadata) == ("Be kind.", {"user": "u"})
    assert [(note.content, note.pinned) for note in await store.list_notes(session)] == [("likes Rome", True)]
    stats = await store.get_session_stats(session)
    assert stats is not None
    assert (stats.prompt_tokens, stats.completion_tokens, stats.llm_calls, stats.first_send_at) == (70, 7, 6, 1000)
    messages = [(m.role, m.content, m.state) for m in await store.load_all_messages(session)]
    assert messages[:4] == [
        ("user", "one", "compacted_out"), ("assistant", "", "compacted_out"), ("tool", "fine", "compacted_out"),
        ("assistant", "Rome is fine.", "compacted_out"),
    ]  # fmt: skip
    assert messages[4:8] == [
        ("user", "two", "active"), ("assistant", "", "active"), ("tool", "[tool result missing]", "active"),
        ("user", "no answer came", "active"),
    ]  # fmt: skip
    assert "an orphan" not in str(messages)
    # The last call may have begun over there: nobody repeats it unasked, and the model hears that.
    [request] = await place.next_requests(session, verb="resume", tools=place.tools[1:])
    assert request["messages"][0]["content"].endswith("Summary: Rome.")
    assert request["messages"][-1]["content"].startswith("Outcome unknown. look")


async def test_what_is_wrong_with_a_3x_archive_is_named(memory_place: Place) -> None:
    place = memory_place
    for change, words in (
        (changed("messages.3.role", "robot"), r"messages\[3\]: role 'robot'"),
        (changed("messages.0.content", 7), r"messages\[0\].content: expected text or a list of blocks, found int"),
        (changed("messages.1.tool_calls", [{"id": "c1", "function": {}}]), r"tool_calls\[0\]: a call needs an id and a name"),
        (changed("messages", "x"), "list of objects"),
    ):
        archive = theirs()
        change(archive)
        with pytest.raises(ValueError, match=words):
            await place.store.import_session(archive)
    assert await place.store.list_sessions() == []
