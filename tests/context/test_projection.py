"""Projection: finished sends in two terse texts, recorded once, switched on and off on a session that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from power_loop import (
    NeverFold,
    ProjectedRepresentation,
    ProjectedRow,
    ProjectedSend,
    ToolDefinition,
    VerbatimRepresentation,
    create_default_tool_registry,
    tool,
)
from power_loop.context.projected import ProjectedWindow
from power_loop.context.represent import Representation
from power_loop.contracts.kept_rows import ProjectMessageRow
from power_loop.contracts.records import SendProjected
from power_loop.testing import call, calls, say

PROJECTED = {"representation": ProjectedRepresentation(max_chars=40)}


@tool(effects="pure")
def read(path: str) -> str:
    """Read a file."""
    return f"the content of {path} " + "x" * 500


def working() -> Any:
    """A model that reads a file in every send, then answers."""
    count = iter(range(100))
    return lambda _: call("read", path=f"{n}.txt") if (n := next(count)) % 2 == 0 else say(f"answer {n // 2 + 1}")


async def talked(desk: Any, sends: int, **config: Any) -> tuple[Any, str]:
    desk.answers(working())
    loop = desk.loop(tools=[read], **config)
    session = await loop.new_session()
    for n in range(1, sends + 1):
        await loop.send(f"question {n}", session)
    return loop, session


def texts(desk: Any) -> list[Any]:
    return [(message["role"], message["content"]) for message in desk.requests[-1].messages]


# --- what is shown -----------------------------------------------------------------------------------


# acceptance: 89
async def test_a_finished_send_is_one_terse_text_of_the_user_and_one_of_the_assistant(desk: Any) -> None:
    _, session = await talked(desk, 3, **PROJECTED)
    cut = "the content of 0.txt xxxxxxxxxxxxxxxxxx…"
    assert texts(desk)[:3] == [
        ("user", "[#1] question 1"),
        ("assistant", f"#1 [tools] read(path=0.txt): {cut}\nanswer 1"),
        ("user", "[#2] question 2"),
    ]
    assert [role for role, _ in texts(desk)[4:]] == ["user", "assistant", "tool"], "the send under way is shown word for word"
    stored = await desk.store.load_all_messages(session)
    assert [row.role for row in stored] == ["user", "assistant", "tool", "assistant"] * 3
    assert stored[2].content == "the content of 0.txt " + "x" * 500


# acceptance: 88
async def test_word_for_word_a_request_is_what_is_stored(desk: Any) -> None:
    _, session = await talked(desk, 3, representation=VerbatimRepresentation())
    stored = await desk.store.load_all_messages(session)
    shown = desk.requests[-1].messages
    assert [(m["role"], m["content"], m.get("tool_calls"), m.get("tool_call_id")) for m in shown] == [
        (row.role, row.content, row.tool_calls, row.tool_call_id) for row in stored[:-1]
    ]


async def test_a_tool_speaks_for_its_calls_itself(desk: Any) -> None:
    def about(args: Any, result: str | None) -> Any:
        return {"path": args["path"], "chars": len(result or "")} if result else "read nothing"

    definition = ToolDefinition("look", "Look.", {"type": "object", "properties": {"path": {}}, "required": ["path"]}, project=about)
    desk.answers(lambda r: calls(call("look", path="a"), call("read", path="b")) if r.messages[-1]["content"] == "go" else say("done"))
    loop = desk.loop(tools=[read], **PROJECTED)
    loop.tool_registry.register(definition, lambda path: "seen " + path)
    session = await loop.new_session()
    await loop.send("go", session)
    await loop.send("and?", session)
    assert texts(desk)[1][1].startswith("#1 [tools] look(path=a, chars=6); read(path=b): the content of b")


async def test_what_came_to_nothing_says_so(desk: Any) -> None:
    desk.answers(lambda _: say(""))
    loop = desk.loop(**PROJECTED)
    session = await loop.new_session()
    await loop.send("hello?", session)
    desk.answers(lambda _: say("yes"))
    await loop.send([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}], session)
    await loop.send("well?", session)
    assert texts(desk)[:3] == [("user", "[#1] hello?"), ("assistant", "#1 (no output)"), ("user", "[#2] look\n[image_url]")]


# acceptance: 91 (a projected send)
async def test_recall_send_gives_the_whole_of_a_send_by_the_number_in_its_text(desk: Any) -> None:
    asked = iter([call("read", path="a.txt"), say("answer"), call("recall_send", send_index=1), say("I see")])
    desk.answers(lambda _: next(asked))
    registry = create_default_tool_registry(preset="core", include=["recall_send"], exclude=[])
    registry.add(read)
    loop = desk.loop(tool_registry=registry, **PROJECTED)
    session = await loop.new_session()
    await loop.send("read it", session)
    await loop.send("what did it say, word for word?", session)
    assert desk.requests[-1].messages[0]["content"].startswith("[#1]")
    assert "the content of a.txt " + "x" * 500 in desk.requests[-1].messages[-1]["content"]


# --- it is recorded once -------------------------------------------------------------------------------


async def test_the_projection_is_written_in_the_batch_that_ends_the_send(desk: Any) -> None:
    _, session = await talked(desk, 1, **PROJECTED)
    rows = await desk.store.rows(session, after=0, whole_from=1)
    assert [row.cells.kind for row in rows][-3:] == ["model_replied", "send_projected", "send_ended"]


async def test_later_code_does_not_change_earlier_prompts(desk: Any) -> None:
    _, session = await talked(desk, 2, **PROJECTED)
    before = texts(desk)[:2]
    desk.answers(lambda _: say("fine"))
    await desk.loop(tools=[read], representation=ProjectedRepresentation(max_chars=5)).send("more", session)
    assert texts(desk)[:2] == before


# acceptance: 99 (projections)
async def test_a_send_that_goes_on_is_projected_anew_and_complete(desk: Any) -> None:
    asked = iter([call("read", path="1"), call("read", path="2"), say("so far"), call("read", path="3"), say("all done"), say("ok")])
    desk.answers(lambda _: next(asked))
    loop = desk.loop(tools=[read], **PROJECTED)
    session = await loop.new_session()
    assert (await loop.send("go", session, max_rounds=2)).status == "hit_round_limit"
    assert (await loop.resume(session, extra_rounds=5)).status == "completed"
    await loop.send("and?", session)
    shown = texts(desk)
    assert [role for role, _ in shown] == ["user", "assistant", "user"]
    assert [f"read(path={n})" in shown[1][1] for n in "123"] == [True] * 3
    assert shown[1][1].endswith("all done")
    assert "so far" not in shown[1][1]


async def test_aborted_calls_stand_in_their_send(desk: Any) -> None:
    desk.answers(lambda _: call("read", path="1"))
    loop = desk.loop(tools=[read], **PROJECTED)
    session = await loop.new_session()
    assert (await loop.send("go", session, tools=[])).status == "pending_tools"
    await loop.abort_pending(session)
    desk.answers(lambda _: say("fine"))
    await loop.send("and?", session)
    assert texts(desk)[1][1].startswith("#1 [tools] read(path=1): <aborted")


async def test_later_sends_read_one_row_per_send(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = await talked(desk, 5, **PROJECTED)
    read_rows: list[Any] = []
    rows = desk.store.rows

    async def counted(*given: Any, **how: Any) -> Any:
        found = await rows(*given, **how)
        read_rows.extend(found)
        return found

    monkeypatch.setattr(desk.store, "rows", counted)
    await desk.loop(tools=[read], **PROJECTED).send("more", session)
    before_the_last = [row.cells.kind for row in read_rows if row.send_index < 5]
    assert before_the_last == ["send_projected"] * 4


async def test_the_view_shows_which_send_is_shown_in_which_kind(desk: Any) -> None:
    _, session = await talked(desk, 2, **PROJECTED)
    rows = await desk.store._database.read("SELECT send_index, kind FROM pl_project_messages WHERE session_id = ? ORDER BY seq", (session,))
    assert rows == [(1, "projected"), (2, "projected")]


# --- switching ------------------------------------------------------------------------------------------


async def test_the_axis_is_switched_on_and_off_on_the_same_session(desk: Any) -> None:
    loop, session = await talked(desk, 2)
    verbatim = desk.requests[-1].messages
    desk.answers(lambda _: say("fine"))
    loop.config.representation = ProjectedRepresentation(max_chars=40)
    await loop.send("three", session)
    assert [text for _, text in texts(desk)][:1] + [text for _, text in texts(desk)][2:3] == ["[#1] question 1", "[#2] question 2"]
    loop.config.representation = VerbatimRepresentation()
    await loop.send("four", session)
    assert desk.requests[-1].messages[: len(verbatim)] == verbatim, "and back"
    loop.config.representation = ProjectedRepresentation(max_chars=40)
    await loop.send("five", session)
    assert [text for role, text in texts(desk) if role == "user"] == [
        *("[#1] question 1", "[#2] question 2", "[#3] three", "[#4] four", "five")
    ]


async def test_history_is_migrated_once_and_in_one_batch(desk: Any) -> None:
    _, session = await talked(desk, 3)
    desk.answers(lambda _: say("fine"))
    for n in range(2):
        await desk.loop(**PROJECTED).send(f"more {n}", session)
    rows = [row for row in await desk.store.rows(session, after=0, whole_from=1) if row.cells.kind == "send_projected"]
    assert [json.loads(row.cells.body or "")["send"] for row in rows] == [1, 2, 3, 4, 5]
    assert {row.epoch for row in rows[:3]} == {rows[0].epoch}
    assert [row.seq for row in rows[:3]] == list(range(rows[0].seq, rows[0].seq + 3))


async def test_history_stays_word_for_word_where_it_shall_not_be_migrated(desk: Any) -> None:
    _, session = await talked(desk, 2)
    desk.answers(lambda _: say("fine"))
    loop = desk.loop(**PROJECTED, migrate_history_on_switch=False)
    await loop.send("three", session)
    await loop.send("four", session)
    assert [text for role, text in texts(desk) if role == "user"] == ["question 1", "question 2", "[#3] three", "four"]


# --- representations of others ------------------------------------------------------------------------------


class Shouting:
    """A plain class: no inheritance."""

    kind = "shouting"
    version = 3

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def project_send(self, send_rows: Any, *, send_index: int, tool_registry: Any) -> ProjectedSend:
        self.seen.append((send_rows[0].session_id, send_index, [row.role for row in send_rows], tool_registry is not None))
        return ProjectedSend([ProjectedRow("user", send_rows[0].content.upper(), "…"), ProjectedRow("project", send_rows[-1].content, "")])

    def render(self, rows: list[ProjectMessageRow]) -> list[Any]:
        self.seen.append({(row.session_id, row.projector_version) for row in rows})
        if rows[0].kind == "compact":
            return [{"role": "user", "name": "compact_note", "content": f"BEFORE: {rows[0].content}"}]
        return [{"role": "user" if row.kind == "user" else "assistant", "content": row.content} for row in rows]


# acceptance: 87 (a representation of the host's)
async def test_a_plain_class_is_a_representation(desk: Any) -> None:
    shouting = Shouting()
    assert isinstance(shouting, Representation)
    _, session = await talked(desk, 2, representation=shouting)
    assert texts(desk)[:2] == [("user", "QUESTION 1"), ("assistant", "answer 1")]
    assert (session, 1, ["user", "assistant", "tool", "assistant"], True) in shouting.seen
    assert {(session, 3)} in shouting.seen


class Broken(Shouting):
    kind = "broken"

    def project_send(self, send_rows: Any, *, send_index: int, tool_registry: Any) -> ProjectedSend:
        raise RuntimeError("no")


class Odd(Shouting):
    kind = "odd"

    def __init__(self, message: Any) -> None:
        super().__init__()
        self.message = message

    def render(self, rows: list[ProjectMessageRow]) -> list[Any]:
        return [self.message]


async def test_a_representation_that_fails_fails_no_send(desk: Any) -> None:
    await talked(desk, 2, representation=Broken())
    assert texts(desk)[0] == ("user", "question 1")
    for odd in ({"role": "tool", "content": "nobody asked"}, {"role": "user", "content": [5]}, {"role": "user"}):
        await talked(desk, 2, representation=Odd(odd))
        assert texts(desk)[:2] == [("user", "…"), ("assistant", "answer 1")]


@pytest.mark.parametrize("wrong", [None, "projected", object()])
def test_what_is_no_representation_is_refused(desk: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="representation"):
        desk.loop(representation=wrong)
    with pytest.raises(ValueError, match="max_chars"):
        ProjectedRepresentation(max_chars=0)


async def test_a_record_of_a_projection_says_which_records_it_shows(desk: Any) -> None:
    loop, session = await talked(desk, 1, **PROJECTED, fold_strategy=NeverFold())
    record = next(row for row in await desk.store.rows(session, after=0, whole_from=1) if row.cells.kind == "send_projected")
    body = json.loads(record.cells.body or "")
    assert (body["lo"], body["hi"], body["version"]) == (1, record.seq - 1, 1)
    assert SendProjected.__name__ == "SendProjected"
    assert isinstance(loop._verbs._driver.cache.get(session).window, ProjectedWindow)


async def test_a_window_keeps_nothing_of_sends_that_were_folded_away(desk: Any) -> None:
    desk.answers(lambda _: say("word " * 300))
    loop = desk.loop(**PROJECTED, context_tokens=3000)
    session = await loop.new_session()
    for _ in range(40):
        await loop.send("more " * 100, session)
    window = loop._verbs._driver.cache.get(session).window
    assert len(desk.folds) > 2
    assert window._placed <= {border.send_index for border in window.borders}


async def test_the_doctor_judges_the_length_of_what_is_shown(desk: Any) -> None:
    settings = {"context_tokens": 2000, "fold_strategy": NeverFold()}
    loop, session = await talked(desk, 20, **PROJECTED, **settings)
    assert (await loop.doctor(session)).findings == ()
    (found,) = (await desk.loop(**settings).doctor(session)).findings
    assert found.code == "context_too_long"
