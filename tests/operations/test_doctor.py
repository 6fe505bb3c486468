"""The doctor: names what is the matter, says what a resume would do, and repairs without deleting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from operating import Place

from power_loop import SessionArchivedError, SessionNotFoundError, UsageLimits, tool
from power_loop.contracts.codec import to_cells
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, SendEnded, ToolParked, ToolReturned, ToolStarted, UserSaid
from power_loop.contracts.store import Statement
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.doctor import doctor
from power_loop.testing import hang
from power_loop.testing.hand import Hand

LOOK, MAIL = ToolCall("c1", "look", '{"at": "Rome"}'), ToolCall("c2", "mail", '{"to": "bob"}')
QUESTION = {"interaction_id": "q1", "tool_call_id": "c2", "tool_name": "mail", "kind": "approval", "prompt": "May I?", "options": []}


async def left(place: Place, *records: Any, holder: bool = False, **question: Any) -> str:
    """A session that somebody left behind these records."""
    session = await place.store.create_session(session_id="s")
    hand = await Hand.of(place.store, session, "somebody")
    await hand.take(*records, until=place.store.clock.now_ms() - 1)
    if not holder:
        await hand.release()
    return session


async def open_call(place: Place) -> str:
    return await left(place, UserSaid("hi"), ModelReplied("", (LOOK,)))


async def unknown_call(place: Place) -> str:
    return await left(place, UserSaid("hi"), ModelReplied("", (LOOK, MAIL)), ToolStarted("c2"), ToolReturned("c1", "fine"))


async def expired_approval(place: Place) -> str:
    return await left(place, UserSaid("hi"), ModelReplied("", (MAIL,)), ToolParked("c2", {**QUESTION, "expires_at": 5}))


async def interrupted_send(place: Place) -> str:
    return await left(place, UserSaid("hi"))


async def lease_stale(place: Place) -> str:
    return await left(place, UserSaid("hi"), ModelReplied("ok"), SendEnded("completed"), holder=True)


async def poisoned(place: Place) -> str:
    session = await left(place, UserSaid("hi"), ModelReplied("", (MAIL,)), ToolStarted("c2"))
    await place.store.database.write([Statement("UPDATE pl_sessions SET takeovers = 5 WHERE session_id = ?", (session,))])
    return session


STUCK: dict[str, tuple[Callable[[Place], Awaitable[str]], str, str]] = {
    "open_call": (open_call, "pending", r"look\(.*Rome.*\) has no result; resume\(\) runs it"),
    "unknown_call": (unknown_call, "pending", r"mail\(.*bob.*\) began and was cut off; resume\(\) does not run it again"),
    "expired_approval": (expired_approval, "waiting", "waited for an approval that came too late"),
    "interrupted_send": (interrupted_send, "interrupted", r"resume\(\) asks the model again"),
    "lease_stale": (lease_stale, "idle", "somebody drove the session and let its lease run out"),
    "poisoned": (poisoned, "poisoned", r"taken over 5 times .* send\(\) and resume\(\) still work"),
}  # fmt: skip


async def seqs(place: Place, session: str) -> list[tuple[Any, ...]]:
    return await place.store.database.read("SELECT seq, kind, body FROM pl_records WHERE session_id = ? ORDER BY seq", (session,))


# acceptance: 151
@pytest.mark.parametrize("code", STUCK)
async def test_each_stuck_state_is_named_and_repaired_by_adding_only(memory_place: Place, code: str) -> None:
    await named_and_repaired(memory_place, code)


# acceptance: 151 (on every engine)
async def test_a_poisoned_session_is_repaired_on_every_engine(place: Place) -> None:
    await named_and_repaired(place, "poisoned")


async def named_and_repaired(place: Place, code: str) -> None:
    make, state, words = STUCK[code]
    session = await make(place)
    before, head = await seqs(place, session), await place.store.look(session)
    found = await doctor(place.store, session)
    assert found.state == state
    finding = next(finding for finding in found.findings if finding.code == code)
    assert finding.automatic
    assert finding.fix
    assert re.search(words, finding.text), finding.text
    assert (await place.store.look(session))._replace(lease_until=0) == head._replace(lease_until=0), "a look changes nothing"

    left_as = await doctor(place.store, session, repair=True)
    assert left_as == Diagnosis(session, "idle", ())
    assert (await seqs(place, session))[: len(before)] == before
    result = await place.loop("hello again").send("and now?", session)
    assert (result.status, result.final_text) == ("completed", "hello again")


# acceptance: 151 (what resume runs)
async def test_what_the_doctor_says_of_a_resume_is_what_a_resume_does(memory_place: Place) -> None:
    place = memory_place
    ran: list[str] = []

    @tool
    async def look(at: str) -> str:
        """Look."""
        ran.append("look")
        return "fine"

    @tool(name="mail")
    async def send_mail(to: str) -> str:
        """Mail."""
        ran.append("mail")
        return "sent"

    session = await left(place, UserSaid("hi"), ModelReplied("", (LOOK, MAIL)), ToolStarted("c2"))
    found = {finding.call_id: finding.code for finding in (await doctor(place.store, session)).findings}
    assert found == {"c1": "open_call", "c2": "unknown_call"}
    pure = await doctor(place.store, session, effects_of=lambda name: "pure")
    assert {finding.code for finding in pure.findings} == {"open_call"}
    await place.loop("done", tools=[look, send_mail]).resume(session)
    assert ran == ["look"]
    assert (await doctor(place.store, session)).findings == ()


async def test_a_question_to_a_person_is_left_to_the_person(memory_place: Place) -> None:
    place = memory_place
    session = await left(
        place,
        UserSaid("hi"),
        ModelReplied("", (LOOK, MAIL)),
        ToolParked("c2", {**QUESTION, "expires_at": 1 << 60}),
        ToolReturned("c1", "x"),
    )
    found = await doctor(place.store, session, repair=True)
    assert found.state == "waiting"
    [finding] = found.findings
    assert (finding.code, finding.call_id, finding.automatic) == ("parked_call", "c2", False)
    assert "May I?" in finding.text
    assert "submit_input(session, 'q1'" in finding.fix


async def test_beside_a_question_what_was_cut_off_is_answered_and_the_session_waits(memory_place: Place) -> None:
    place = memory_place
    session = await left(place, UserSaid("hi"), ModelReplied("", (LOOK, MAIL)), ToolParked("c2", QUESTION))
    found = await doctor(place.store, session, repair=True)
    assert (found.state, [finding.code for finding in found.findings]) == ("waiting", ["parked_call"])
    result = await place.loop("done").submit_input(session, "q1", "yes")
    assert (result.status, result.final_text) == ("completed", "done")


async def test_what_runs_is_left_alone(memory_place: Place) -> None:
    place = memory_place
    loop = place.loop(hang())
    session = await loop.new_session()
    task = asyncio.create_task(loop.send("go", session))
    while not (await place.store.look(session)).holder:
        await asyncio.sleep(0)
    found = await doctor(place.store, session)
    assert (found.state, [finding.code for finding in found.findings]) == ("running", ["lease_held"])
    again = await doctor(place.store, session, repair=True)
    assert (again.state, [finding.code for finding in again.findings]) == ("running", ["lease_held"]), "nothing of it is automatic"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_holder_that_provably_died_is_taken_over_before_its_lease_ends(place: Place) -> None:
    session = await place.store.create_session()
    hand = await Hand.of(place.store, session, "the dead")
    await hand.take(UserSaid("hi"))
    assert (await doctor(place.store, session)).state == "running"
    found = await doctor(place.store, session, is_dead=lambda holder: holder == "the dead")
    assert (found.state, [finding.code for finding in found.findings]) == ("interrupted", ["lease_stale", "interrupted_send"])
    assert (await doctor(place.store, session, repair=True, is_dead=lambda holder: True)).findings == ()
    head = await place.store.look(session)
    assert (head.holder, head.epoch > hand.head.epoch) == (None, True)


async def test_what_waits_is_counted(place: Place) -> None:
    store = place.store
    session = await place.loop().new_session()
    await place.loop().enqueue("later", session)
    await store.create_timer(session, due_at=1, note="wake up")
    job = "(session_id, job_id, kind, status, holder, created_at, updated_at) VALUES (?, 'j1', 'command', 'running', 'gone', 1, 1)"
    await store.database.write([Statement(f"INSERT INTO pl_jobs {job}", (session,))])
    found = await doctor(store, session, is_dead=lambda holder: holder == "gone")
    assert [finding.code for finding in found.findings] == ["inbox_waiting", "timer_overdue", "orphan_worker"]
    assert "the job j1" in found.findings[2].text


async def test_a_used_up_budget_and_a_history_that_is_too_long_are_said(memory_place: Place) -> None:
    place = memory_place
    paid = ModelReplied("", (LOOK,), usage=CallUsage(10, 2, calls=1))
    session = await left(place, UserSaid("x" * 4000), paid, ToolReturned("c1", "fine"), SendEnded("budget_exceeded", "requests"))
    found = await doctor(place.store, session, limits=Limits(usage=UsageLimits(requests=1)), context_tokens=100)
    assert [finding.code for finding in found.findings] == ["context_too_long", "over_budget"]
    assert "used up its requests" in found.findings[1].text
    assert (await doctor(place.store, session)).findings == ()


async def test_a_history_that_no_provider_takes_is_folded_away(memory_place: Place) -> None:
    """Not to be had through any door: the rows are written by hand."""
    place = memory_place
    session = await place.said("one", "two")
    cells = to_cells(ModelReplied("answer 1", (LOOK,)))
    await place.store.database.write(
        [Statement("UPDATE pl_records SET tool_calls = ? WHERE session_id = ? AND seq = 2", (cells.tool_calls, session))]
    )
    found = await doctor(place.store, session)
    assert [finding.code for finding in found.findings] == ["invalid_import"]
    assert (await doctor(place.store, session, repair=True)).findings == ()
    [request] = await place.next_requests(session)
    assert "answer 1" in request["messages"][0]["content"]
    assert len(request["messages"]) == 2
    await place.store.database.write([Statement("UPDATE pl_records SET tool_calls = NULL WHERE session_id = ? AND seq = 2", (session,))])


async def test_a_healthy_an_archived_and_an_unknown_session(memory_place: Place) -> None:
    place = memory_place
    session = await place.said("one")
    assert await doctor(place.store, session, repair=True) == Diagnosis(session, "idle", ())
    stuck = await interrupted_send(place)
    await place.store.archive_session(stuck)
    assert (await doctor(place.store, stuck)).state == "archived"
    with pytest.raises(SessionArchivedError):
        await doctor(place.store, stuck, repair=True)
    with pytest.raises(SessionNotFoundError):
        await doctor(place.store, "gone")
