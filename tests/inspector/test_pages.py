"""The inspector shows what the records say, page by page, on every engine, and changes nothing."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

import pytest

from power_loop import StatefulAgentLoop, ToolHandlerResult, tool
from power_loop.contracts.codec import to_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, ToolReturned
from power_loop.contracts.store import RecordRow
from power_loop.inspector.reads import PAGE_ROWS, Reads
from power_loop.inspector.shown import SHOWN_CHARS
from power_loop.inspector.timeline import timeline
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say


async def asked(place: Any, page: str, **parameters: Any) -> Any:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    answer = await place.browser.get(f"/api/{page}?{query}")
    assert answer.status == 200, answer.body
    return answer.json


async def everything(place: Any) -> list[Any]:
    return [sorted(await place.store.database.read(f"SELECT * FROM pl_{table}"), key=repr) for table in ("sessions", "records", "inbox")]


# --- the list ---------------------------------------------------------------------------------------------


async def test_the_list_shows_each_session_with_its_numbers_and_how_it_stands(place: Any) -> None:
    (line,) = (await asked(place, "sessions"))["sessions"]
    stats = await place.store.get_session_stats("demo")
    assert (line["session_id"], line["outcome"], line["kind"], line["metadata"]) == ("demo", "completed", "root", {"tenant": "acme"})
    assert (line["sends"], line["tool_calls"], line["prompt_tokens"]) == (stats.sends, stats.tool_calls, stats.prompt_tokens)
    assert line["title"]["shown"].startswith("trip 0")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"q": "dem"}, True), ({"q": "acme"}, True), ({"q": "agen"}, True), ({"q": "%25"}, False), ({"q": "d_mo"}, False),
        ({"q": "!"}, False),
        ({"kind": "root"}, True), ({"kind": "subagent"}, False), ({"agent": "agent"}, True), ({"agent": "other"}, False),
        ({"archived": "0"}, True), ({"archived": "1"}, False), ({"running": "1"}, False),
    ],
)  # fmt: skip
async def test_the_list_is_narrowed_by_what_is_asked_for(file_place: Any, filters: dict[str, str], found: bool) -> None:
    assert bool((await asked(file_place, "sessions", **filters))["sessions"]) is found


async def test_the_pages_of_the_list_hold_each_session_once(place: Any) -> None:
    for n in range(120):
        await place.loop.new_session(session_id=f"more-{n}")
    seen, cursor = [], {}
    while True:
        page = await asked(place, "sessions", **cursor)
        seen += [line["session_id"] for line in page["sessions"]]
        if page["next"] is None:
            break
        cursor = {"at": page["next"][0], "id": page["next"][1]}
    assert sorted(seen) == sorted(["demo", *(f"more-{n}" for n in range(120))])


# --- one session --------------------------------------------------------------------------------------------


async def test_the_timeline_shows_sends_rounds_calls_and_results(place: Any) -> None:
    page = await asked(place, "timeline", id="demo")
    assert [send["send"] for send in page["sends"]] == [1, 2, 3, 4]
    assert (page["next"], page["last"]) == (None, True)
    send = page["sends"][-1]
    asking, answer = (item for item in send["items"] if item["kind"] == "model_replied")
    assert [(call["name"], call["outcome"]) for call in asking["calls"]] == [("look_up", "ok"), ("book", "failed")]
    assert (answer["text"]["shown"], answer["finish_reason"], send["status"]) == ("done 3", "stop", "completed")
    assert (send["tool_calls"], send["failed_calls"]) == (2, 1)
    assert send["prompt_tokens"] == sum(item["usage"]["prompt"] for item in (asking, answer))


async def test_the_pages_of_a_timeline_hold_each_send_once_and_whole(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("power_loop.inspector.reads.PAGE_ROWS", 10)
    sends, before = [], {}
    while True:
        page = await asked(place, "timeline", id="demo", **before)
        sends = page["sends"] + sends
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert [send["send"] for send in sends] == [1, 2, 3, 4]
    assert all(send["items"][0]["kind"] == "user_said" and send["items"][-1]["kind"] == "send_ended" for send in sends)


async def test_a_send_that_is_longer_than_a_page_comes_in_parts_that_say_so(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (await asked(place, "timeline", id="demo"))["sends"]
    assert not any(send["cut"] for send in whole)
    length = whole[-1]["through_seq"] - whole[-1]["from_seq"] + 1
    monkeypatch.setattr("power_loop.inspector.reads.PAGE_ROWS", length - 1)
    last = await asked(place, "timeline", id="demo")
    (part,) = last["sends"]
    assert (part["send"], part["cut"], part["status"]) == (4, ["before"], "completed")
    before = (await asked(place, "timeline", id="demo", before=last["next"]))["sends"]
    assert (before[-1]["send"], before[-1]["cut"], before[-1]["status"]) == (4, ["after"], "")
    assert [each["cut"] for each in before[:-1]] == [[]] * (len(before) - 1)


@pytest.mark.parametrize("send", [1, 2, 4, 99])
async def test_a_permalink_leads_to_its_send_without_reading_all_before(place: Any, send: int) -> None:
    page = await asked(place, "timeline", id="demo", send=send)
    assert page["sends"][-1]["send"] == min(send, 4)
    assert page["last"] is (send >= 4)


async def test_a_long_text_is_cut_and_whole_in_its_record(place: Any) -> None:
    page = await asked(place, "timeline", id="demo")
    call = next(item for item in page["sends"][0]["items"] if item.get("calls"))["calls"][0]
    assert len(call["output"]["shown"]) == SHOWN_CHARS < call["output"]["chars"]
    whole = call["output"]["shown"]
    for size in (10, 50_000):
        piece = await asked(place, "record", id="demo", seq=call["result_seq"], **{"from": len(whole), "size": size})
        whole += piece["text"]
    assert (len(whole), piece["upto"], whole[-9_000:]) == (piece["chars"], piece["chars"], "x" * 9_000)


async def test_a_page_shows_the_beginning_of_what_is_huge(file_place: Any) -> None:
    @tool(effects="pure")
    def report() -> ToolHandlerResult:
        """Report."""
        return ToolHandlerResult(True, "ok", {"whole": "d" * 1_000_000})

    await file_place.loop.new_session(session_id="huge", metadata={"about": "m" * 1_000_000, "tenant": "acme"})
    async with StatefulAgentLoop(llm=ScriptedLLM([calls(call("report")), say("done")]), store=file_place.store, tools=[report]) as loop:
        await loop.send("go", "huge", metadata={"given": "g" * 1_000_000})
    for page in ("timeline?id=huge", "session?id=huge", "sessions"):
        answer = await file_place.browser.get(f"/api/{page}")
        assert (answer.status, len(answer.body) < 10 * SHOWN_CHARS) == (200, True), page
    assert (await asked(file_place, "session", id="huge"))["metadata"]["tenant"] == "acme"


def test_thousands_of_calls_in_one_reply_cost_their_number_not_its_square() -> None:
    def cost(size: int) -> float:
        asked = [ModelReplied("", tuple(ToolCall(f"c{n}", "look", "{}") for n in range(size)))]
        records = [*asked, *(ToolReturned(f"c{n}", "ok") for n in range(size))]
        rows = [RecordRow(n, 1, 0, to_cells(record)) for n, record in enumerate(records)]
        begun = time.thread_time()
        assert len(timeline("s", rows)[0]["items"]) == 1
        return time.thread_time() - begun

    assert min(cost(4_000) for _ in range(3)) < 12 * min(cost(1_000) for _ in range(3))


async def test_what_waits_for_a_person_is_shown_and_so_is_what_the_doctor_says(place: Any) -> None:
    await place.loop.enqueue("later", "demo")
    session = await asked(place, "session", id="demo")
    assert [item["record"]["text"]["shown"] for item in session["inbox"]] == ["later"]
    assert "inbox_waiting" in [finding["code"] for finding in (await asked(place, "doctor", id="demo"))["findings"]]
    assert [one["session_id"] for one in session["tree"]] == ["demo"]


async def test_a_family_is_shown_from_its_topmost_parent(place: Any) -> None:
    child = await place.store.create_session(parent_session_id="demo", kind="subagent", lifecycle="linked")
    grandchild = await place.store.create_session(parent_session_id=child, kind="subagent")
    for one in ("demo", child, grandchild):
        tree = (await asked(place, "session", id=one))["tree"]
        assert [(each["session_id"], each["parent"]) for each in tree] == [("demo", None), (child, "demo"), (grandchild, child)]


async def test_the_request_behind_a_reply_is_what_the_model_was_sent(place: Any) -> None:
    replies = [row for row in await place.store.rows("demo", after=0) if row.cells.kind == "model_replied"]
    for sent, reply in zip(place.loop.llm.requests, replies, strict=True):
        shown = await asked(place, "request", id="demo", seq=reply.seq)
        assert [message["role"] for message in shown["messages"]] == [message["role"] for message in sent.messages]
        assert shown["messages"][-1]["content"]["chars"] == len(sent.messages[-1]["content"])
        assert shown["common"] == shown["previous_messages"]
    assert (await asked(place, "request", id="demo", seq=replies[1].seq))["previous_seq"] == replies[0].seq


async def test_the_charts_add_up_to_the_sessions_counters(place: Any) -> None:
    stats = await place.store.get_session_stats("demo")
    calls, of_all = await asked(place, "charts", id="demo"), await asked(place, "charts")
    days = (await asked(place, "days"))["days"]
    assert (sum(calls["input"]), len(calls["at"])) == (stats.prompt_tokens, stats.llm_calls)
    assert (sum(days["input"]), sum(days["sends"]), sum(days["sessions"])) == (stats.prompt_tokens, stats.sends, 1)
    assert of_all == calls
    assert (sum(calls["tools_failed"]), sum(calls["failed"]), set(calls["session"])) == (4, 0, {"demo"})


async def test_the_latest_calls_of_all_sessions_stand_in_the_order_of_time(place: Any) -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(lambda request: "yes"), store=place.store) as loop:
        for n in (1, 2, 1):
            await (loop.send("go", f"other-{n}") if await loop.prewarm(f"other-{n}") else loop.new_session(session_id=f"other-{n}"))
            await loop.send("go", f"other-{n}")
    calls = await asked(place, "charts")
    assert calls["at"] == sorted(calls["at"])
    assert set(calls["session"]) == {"demo", "other-1", "other-2"}


@pytest.mark.parametrize("page", ["session", "doctor", "timeline", "record", "request", "charts", "events"])
async def test_an_unknown_session_is_an_answer_that_says_so(file_place: Any, page: str) -> None:
    answer = await file_place.browser.get(f"/api/{page}?id=nobody&seq=1")
    if page == "charts":
        assert answer.json["at"] == []
    else:
        assert answer.status == 404


@pytest.mark.parametrize(
    "query", ["", "id=", "id=demo&before=x", "id=demo&send=-1", "id=demo&send=1e3", "id=demo&before=" + "9" * 30, "id=demo&send=٣"]
)
async def test_nonsense_in_the_address_is_told_and_harms_nothing(file_place: Any, query: str) -> None:
    answer = await file_place.browser.get(f"/api/timeline?{query}")
    assert (answer.status, bool(answer.json["error"])) == (400, True)


@pytest.mark.parametrize("after", ["x", "-1", "1.x", "9999", "9" * 5000])
async def test_a_cursor_that_the_session_does_not_have_is_an_answer_and_not_a_stream_that_breaks(file_place: Any, after: str) -> None:
    answer = await file_place.browser.get(f"/api/events?id=demo&after={after}")
    assert (answer.status, bool(answer.json["error"])) == (400, True)


@pytest.mark.parametrize("query", ["at=x", "at=-1", "at=" + "9" * 30, "at=1e3"])
async def test_nonsense_in_the_cursor_of_the_list_is_told(file_place: Any, query: str) -> None:
    assert (await file_place.browser.get(f"/api/sessions?{query}")).status == 400


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "__init__.py"])
async def test_only_the_pages_own_files_are_served(file_place: Any, name: str) -> None:
    assert (await file_place.browser.get(f"/static/{name}")).status == 404


# acceptance: 180
async def test_looking_changes_nothing(place: Any) -> None:
    before = await everything(place)
    for page in ("sessions", "session", "timeline", "charts", "days", "doctor"):
        await asked(place, page, id="demo")
    await asked(place, "request", id="demo", seq=2)
    assert await everything(place) == before


# acceptance: 180
async def test_a_live_send_is_told_as_it_runs(place: Any) -> None:
    head = (await place.store.look("demo")).head
    loop = type(place.loop)(llm=FunctionLLM(lambda request: "fresh"), store=place.store)
    seen = []
    async with aclosing(place.browser.events(f"/api/events?id=demo&after={head}")) as events:
        await loop.send("again", "demo")
        async for event in events:
            seen.append(event["type"])
            if event["type"] == "session_ended":
                break
    assert seen.count("message_appended") == 2
    await loop.aclose()


async def test_a_page_of_any_session_reads_a_bounded_number_of_rows(file_place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    database = type(file_place.store.database)
    plain = database.read

    async def counted(self: Any, sql: str, params: Any = ()) -> Any:
        rows = await plain(self, sql, params)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(database, "read", counted)
    reads = Reads(file_place.store.database, file_place.store.dialect, "pl_", file_place.store.clock, file_place.store.ids)
    head = (await file_place.store.look("demo")).head
    read.clear()
    await reads.end_of_send("demo", 1, head)
    await reads.page_before("demo", head + 1)
    assert len(read) <= head.bit_length() + 2
    assert max(read) <= PAGE_ROWS


async def test_an_unknown_session_is_refused_by_its_name(file_place: Any) -> None:
    reads = Reads(file_place.store.database, file_place.store.dialect, "pl_", file_place.store.clock, file_place.store.ids)
    with pytest.raises(SessionNotFoundError, match="nobody"):
        await reads.session("nobody")


async def test_a_request_of_many_rows_is_derived_from_the_latest_and_counts_the_rest(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = max(row.seq for row in await place.store.rows("demo", after=0) if row.cells.kind == "model_replied")
    whole = await asked(place, "request", id="demo", seq=reply)
    monkeypatch.setattr("power_loop.inspector.reads.REQUEST_ROWS", 12)
    bounded = await asked(place, "request", id="demo", seq=reply)
    assert 0 < bounded["left_out"] == len(whole["messages"]) - len(bounded["messages"])
    assert bounded["messages"] == whole["messages"][bounded["left_out"] :]
    assert (bounded["common"], bounded["previous_messages"]) == (whole["common"], whole["previous_messages"])
