"""What the doctor finds in what was read of a session, and what it writes to cure it."""

from __future__ import annotations

from typing import Any

import pytest
from histories import MAIL, READ, SAVE, effects_of, parked, replied, returned, said

from power_loop.contracts.late import LateResult
from power_loop.contracts.limits import Limits
from power_loop.contracts.records import (
    Answered,
    ContextFolded,
    Decided,
    Record,
    SendEnded,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
)
from power_loop.contracts.store import MAX_TAKEOVERS, Head, InboxItem
from power_loop.contracts.usage import UsageLimits
from power_loop.kernel.diagnose import REPAIRED, Seen, cure, diagnose, standing
from power_loop.kernel.state import replay

NOW = 10_000
ENDED: list[Record] = [said(), replied("yes"), SendEnded("completed")]
CUT: list[Record] = [said()]
OPEN: list[Record] = [said(), replied("", READ)]
BEGUN: list[Record] = [said(), replied("", MAIL), ToolStarted(MAIL.id)]
WAITS: list[Record] = [said(), replied("", READ), parked(READ)]
LATE = [said(), replied("", READ), ToolParked(READ.id, {"interaction_id": "q1", "expires_at": NOW})]
APPROVAL = [
    said(),
    replied("", READ),
    ToolParked(READ.id, {"interaction_id": "q7", "prompt": "May I?", "digest": "d", "expires_at": NOW + 1}),
]
HELD = Head("s", holder="bob", lease_until=NOW + 7_000)
STALE = Head("s", holder="bob", lease_until=NOW)
DOWN = {"code": "llm.error", "type": "ConnectionError", "message": "down"}
FOLD = ContextFolded(4, "it was unreadable", 1)
DECIDED = InboxItem(1, "k", "queue", Decided("q1", READ.id, True))
ANSWERED = InboxItem(1, "k", "queue", Answered("q1", READ.id, "yes"))
ELSEWHERE = InboxItem(1, "k", "queue", Decided("q2", SAVE.id, True))
WORD = InboxItem(1, "k", "queue", said("and also"))
STOP = InboxItem(1, "k", "aside", StopRequested("cancelled", "", "cancel"))


def seen(*records: Record, head: Head = Head("s"), **more: Any) -> Seen:  # noqa: B008  # an immutable default
    return Seen(head, replay(records), now=NOW, effects_of=effects_of, **more)


def found(case: Seen) -> list[tuple[str, str | None, bool]]:
    return [(finding.code, finding.call_id, finding.automatic) for finding in diagnose(case).findings]


@pytest.mark.parametrize(
    ("case", "state"),
    [
        (seen(), "idle"),
        (seen(*ENDED), "idle"),
        (seen(*CUT), "interrupted"),
        (seen(*OPEN), "pending"),
        (seen(*WAITS), "waiting"),
        (seen(said(), replied("", READ, SAVE), parked(READ)), "pending"),
        (seen(*OPEN, head=HELD), "running"),
        (seen(*OPEN, head=STALE), "pending"),
        (seen(*OPEN, head=HELD, holder_dead=True), "pending"),
        (seen(*OPEN, head=Head("s", lease_until=NOW + 1)), "pending"),
        (seen(*OPEN, head=Head("s", takeovers=MAX_TAKEOVERS)), "poisoned"),
        (seen(*OPEN, head=HELD._replace(takeovers=MAX_TAKEOVERS)), "running"),
        (seen(*OPEN, head=HELD._replace(archived=True)), "archived"),
    ],
)
def test_one_word_says_where_a_session_stands(case: Seen, state: str) -> None:
    assert standing(case) == state
    assert diagnose(case)[:2] == ("s", state)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (seen(*ENDED), []),
        # The lease.
        (seen(*OPEN, head=HELD), [("lease_held", None, False)]),
        (seen(*ENDED, head=STALE), [("lease_stale", None, True)]),
        (seen(*ENDED, head=HELD, holder_dead=True), [("lease_stale", None, True)]),
        (seen(*ENDED, head=Head("s", takeovers=MAX_TAKEOVERS)), [("poisoned", None, True)]),
        (seen(*ENDED, head=Head("s", takeovers=MAX_TAKEOVERS - 1)), []),
        # The history.
        (seen(*ENDED, broken="a call without a result"), [("invalid_import", None, False)]),
        (seen(*ENDED, broken="a call without a result", unreadable=FOLD), [("invalid_import", None, True)]),
        (seen(*ENDED, repairs={"an empty word": 2}), [("invalid_import", None, True)]),
        (seen(*ENDED, tokens=11, context_tokens=10), [("context_too_long", None, False)]),
        (seen(*ENDED, tokens=10, context_tokens=10), []),
        (seen(*ENDED, tokens=11), []),
        # The send.
        (seen(*CUT), [("interrupted_send", None, True)]),
        (seen(said(), replied("yes")), [("interrupted_send", None, True)]),
        (seen(said(), SendEnded("failed", error=DOWN)), [("interrupted_send", None, False)]),
        (seen(said(), SendEnded("degraded", "timeout")), [("interrupted_send", None, False)]),
        (seen(said(), SendEnded("failed", error=DOWN), head=HELD), [("lease_held", None, False)]),
        (seen(*OPEN), [("open_call", READ.id, True)]),
        (seen(*BEGUN), [("unknown_call", MAIL.id, True)]),
        (seen(*BEGUN, head=HELD), [("lease_held", None, False)]),
        (seen(said(), replied("", READ, MAIL), ToolStarted(MAIL.id)), [("open_call", READ.id, True), ("unknown_call", MAIL.id, True)]),
        (seen(*WAITS), [("parked_call", READ.id, False)]),
        (seen(*APPROVAL), [("parked_call", READ.id, False)]),
        (seen(*LATE), [("expired_approval", READ.id, True)]),
        (seen(*LATE, parked(READ, "q2")), [("parked_call", READ.id, False)]),
        (seen(*LATE, inbox=[DECIDED]), [("open_call", READ.id, False), ("inbox_waiting", None, False)]),
        (seen(*WAITS, inbox=[ANSWERED]), [("open_call", READ.id, False), ("inbox_waiting", None, False)]),
        (seen(*WAITS, inbox=[ELSEWHERE]), [("parked_call", READ.id, False), ("inbox_waiting", None, False)]),
        (seen(*WAITS, inbox=[STOP]), [("parked_call", READ.id, False), ("inbox_waiting", None, False)]),
        # What waits.
        (seen(*ENDED, inbox=[WORD]), [("inbox_waiting", None, False)]),
        (seen(*OPEN, inbox=[WORD], head=HELD), [("lease_held", None, False)]),
        (seen(*ENDED, overdue=2), [("timer_overdue", None, False)]),
        (seen(*ENDED, orphans=["j1", "j2"]), [("orphan_worker", None, False)] * 2),
    ],
)
def test_what_is_the_matter_is_found_the_gravest_first(case: Seen, expected: list[tuple[str, str | None, bool]]) -> None:
    assert found(case) == expected
    assert all(finding.text and finding.fix for finding in diagnose(case).findings)


def test_what_ended_a_send_is_told_with_it() -> None:
    (finding,) = diagnose(seen(said(), SendEnded("failed", error=DOWN))).findings
    assert finding.text == "the last send ended failed (ConnectionError: down); resume() goes on with it"


@pytest.mark.parametrize(
    ("records", "limits", "codes"),
    [
        (CUT, 15, ["interrupted_send"]),
        ([*OPEN, returned(READ)], 15, ["over_budget", "interrupted_send"]),
        ([*OPEN, returned(READ)], 16, ["interrupted_send"]),
        (ENDED, 15, []),
        ([*OPEN, returned(READ), SendEnded("budget_exceeded", "total_tokens")], 15, ["over_budget"]),
        ([*OPEN, returned(READ), SendEnded("budget_exceeded", "total_tokens")], 16, []),
    ],
)
def test_a_send_that_used_up_its_budget_is_named_while_a_resume_would_end_at_once(
    records: list[Record], limits: int, codes: list[str]
) -> None:
    case = seen(*records, limits=Limits(usage=UsageLimits(total_tokens=limits)))
    assert [code for code, *_ in found(case)] == codes
    assert all("total_tokens" in each.text and each.fix for each in diagnose(case).findings if each.code == "over_budget")


@pytest.mark.parametrize(("answered", "found_as"), [("unknown", True), (None, True), ("ok", False), ("aborted", False)])
def test_a_result_that_came_too_late_is_told_while_the_model_does_not_know_it(answered: str | None, found_as: bool) -> None:
    late = LateResult("c3", 1, "key", "ok", "it was sent", "mail", answered=answered)
    findings = diagnose(seen(*ENDED, late=[late])).findings
    assert [(each.code, each.call_id, each.automatic) for each in findings] == [("unknown_call", "c3", False)] * found_as
    assert all("mail" in each.text and "it was sent" in each.text and "(ok)" in each.text and each.fix for each in findings)
    assert ("c3" in diagnose(seen(*ENDED, late=[late._replace(name=None)])).findings[0].text) if found_as else True


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (seen(*OPEN, head=HELD), ["bob", "7 s"]),
        (seen(*ENDED, head=STALE), ["bob", "run out"]),
        (seen(*ENDED, head=STALE, holder_dead=True), ["bob drove the session and died;"]),
        (seen(*ENDED, head=Head("s", takeovers=MAX_TAKEOVERS)), [str(MAX_TAKEOVERS)]),
        (seen(*ENDED, broken="a call without a result"), ["a call without a result"]),
        (seen(*ENDED, repairs={"b": 1, "a": 2}), ["a (2); b (1)"]),
        (seen(*ENDED, tokens=11, context_tokens=10), ["11", "10"]),
        (seen(*CUT), ["asks the model again"]),
        (seen(said(), replied("yes")), ["behind its answer"]),
        (seen(*OPEN), ["read({})"]),
        (seen(*WAITS), ["which?"]),
        (seen(said(), replied("", READ), ToolParked(READ.id, {})), ["read({})"]),
        (seen(*ENDED, inbox=[WORD, STOP]), ["heard: 2"]),
        (seen(*ENDED, overdue=3), ["fired: 3"]),
        (seen(*ENDED, orphans=["j1"]), ["j1"]),
    ],
)
def test_a_finding_names_what_it_is_about(case: Seen, words: list[str]) -> None:
    text = diagnose(case).findings[0].text
    assert [word for word in words if word not in text] == []


def test_the_way_out_names_the_verb_and_its_arguments() -> None:
    assert diagnose(seen(*APPROVAL)).findings[0].fix.startswith("approve(session, 'q7', digest=...)")
    assert diagnose(seen(*WAITS)).findings[0].fix.startswith("submit_input(session, 'q1', ...)")
    assert diagnose(seen(*LATE, inbox=[DECIDED])).findings[0].fix == "resume()"
    assert "stop_job(session, 'j1')" in diagnose(seen(*ENDED, orphans=["j1"])).findings[0].fix


@pytest.mark.parametrize(("left_ms", "told"), [(7_999, "7 s"), (1, "0 s")])
def test_a_lease_is_told_in_whole_seconds(left_ms: int, told: str) -> None:
    assert f"ends in {told}" in diagnose(seen(*OPEN, head=HELD._replace(lease_until=NOW + left_ms))).findings[0].text


def answer(record: Record) -> tuple[Any, ...]:
    assert isinstance(record, ToolReturned)
    return record.call_id, record.outcome, record.name, record.ran


END = SendEnded("interrupted", REPAIRED)


@pytest.mark.parametrize(
    ("case", "answers", "rest"),
    [
        (seen(), [], []),
        (seen(*ENDED), [], []),
        (seen(*ENDED, unreadable=FOLD), [], [FOLD]),
        (seen(*CUT), [], [END]),
        (seen(*CUT, unreadable=FOLD), [], [END]),
        (seen(*OPEN), [(READ.id, "aborted", "read", False)], [END]),
        (seen(*BEGUN), [(MAIL.id, "unknown", "mail", False)], [END]),
        (seen(*LATE), [(READ.id, "denied", "read", False)], [END]),
        # Who waits for a person goes on waiting, and so does the send.
        (seen(*WAITS), [], []),
        (seen(*APPROVAL), [], []),
        (seen(*LATE, inbox=[DECIDED]), [], []),
        (seen(said(), replied("", READ, SAVE), parked(READ)), [(SAVE.id, "aborted", "save", False)], []),
        (seen(said(), replied("", SAVE, READ), parked(READ)), [(SAVE.id, "aborted", "save", False)], []),
    ],
)
def test_the_cure_answers_what_nobody_waits_for_and_ends_the_send(case: Seen, answers: list[Any], rest: list[Record]) -> None:
    records = cure(case)
    assert [answer(record) for record in records[: len(answers)]] == answers
    assert records[len(answers) :] == rest
    assert all(REPAIRED in str(record.output) for record in records if isinstance(record, ToolReturned))
