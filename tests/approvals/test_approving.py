"""A call that needs an approval waits for it, in any process, and runs once it has it: with these arguments, and once."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import ApprovalError, SessionArchivedError, SessionNotFoundError
from power_loop.contracts.approvals import digest_of
from power_loop.contracts.records import Decided, ToolParked, ToolStarted
from power_loop.testing import call, calls

PAY = call("pay", euros=5)


async def test_the_call_waits_and_is_shown_as_what_it_is(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till)
    assert till.paid == []
    assert (approval.session_id, approval.name, approval.arguments, approval.expires_at) == (session, "pay", {"euros": 5}, None)
    assert approval.digest == digest_of(approval.tool_call_id, "pay", {"euros": 5})
    result = await loop.resume(session)
    assert result.status == "waiting_for_input"
    (question,) = result.pending_interactions
    assert (question["kind"], question["interaction_id"], question["tool_name"]) == ("approval", approval.interaction_id, "pay")
    assert question["prompt"] == 'May pay run with {"euros":5}?'
    assert not await bank.records(loop, session, ToolStarted), "it did not begin"


# acceptance: 125 (survives a restart), 126 (who decided what and when)
async def test_the_approval_comes_from_another_process_and_a_third_goes_on(bank: Any, till: Any) -> None:
    _, session, _ = await bank.waiting(till)
    clerk = await bank.loop(till, PAY)
    (approval,) = await clerk.list_approvals(session)
    bank.clock.passed_s = 86_400
    await clerk.approve(session, approval.interaction_id, digest=approval.digest, by="ann", note="fine")
    assert till.paid == []
    assert await clerk.list_approvals(session) == []
    third = await bank.loop(till, PAY)
    result = await third.resume(session)
    assert (result.status, result.final_text, till.paid) == ("completed", "so: paid 5", [5])
    (made,) = await bank.records(third, session, Decided)
    assert (made.approved, made.by, made.note, made.digest) == (True, "ann", "fine", approval.digest)
    assert made.decided_at - approval.requested_at >= 86_400_000
    (again,) = await bank.records(third, session, ToolParked)
    assert again.interaction["arguments"] == {"euros": 5}


# acceptance: 126
async def test_a_denied_call_never_runs_and_the_model_reads_the_note(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till)
    await loop.deny(session, approval.interaction_id, digest=approval.digest, by="bob", note="too dear")
    result = await loop.resume(session)
    assert (result.status, result.final_text) == ("completed", "so: Denied: pay was not run. Note: too dear")
    assert (till.paid, result.tool_calls) == ([], 0)
    (told,) = bank.told("tool_call_completed")
    assert (told["outcome"], told["failed"]) == ("denied", False)
    (made,) = await bank.records(loop, session, Decided)
    assert (made.approved, made.by, made.note) == (False, "bob", "too dear")


async def test_a_denial_needs_no_program_that_has_the_tool(bank: Any, till: Any) -> None:
    _, session, approval = await bank.waiting(till)
    clerk = await bank.loop(till, PAY, tools=[])
    await clerk.deny(session, approval.interaction_id, digest=approval.digest)
    assert (await clerk.resume(session)).final_text == "so: Denied: pay was not run."


# acceptance: 131
async def test_siblings_run_and_the_send_rests_only_when_the_parked_call_is_left(bank: Any, till: Any) -> None:
    three = calls(call("look", at="Rome"), PAY, call("look", at="Bern"))
    loop, session, approval = await bank.waiting(till, three)
    assert sorted(till.looked) == ["Bern", "Rome"]
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    assert (await loop.resume(session)).final_text == "so: saw Rome | paid 5 | saw Bern"
    assert sorted(till.looked) == ["Bern", "Rome"]


async def test_several_wait_at_once_and_each_has_its_own_decision(bank: Any, till: Any) -> None:
    loop = await bank.loop(till, calls(call("pay", euros=1), call("pay", euros=2), call("pay", euros=3)))
    session = await loop.new_session()
    await loop.send("pay all", session)
    first, second, third = await loop.list_approvals(session)
    assert [each.arguments["euros"] for each in (first, second, third)] == [1, 2, 3]
    await loop.approve(session, second.interaction_id, digest=second.digest)
    result = await loop.resume(session)
    assert (result.status, till.paid) == ("waiting_for_input", [2])
    await loop.deny(session, first.interaction_id, digest=first.digest)
    await loop.approve(session, third.interaction_id, digest=third.digest)
    assert (await loop.resume(session)).final_text == "so: Denied: pay was not run. | paid 2 | paid 3"
    assert till.paid == [2, 3]


# acceptance: 125 (decided once)
@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("second", ["approve", "deny"])
async def test_a_second_decision_is_refused(bank: Any, till: Any, heard: bool, second: str) -> None:
    loop, session, approval = await bank.waiting(till)
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    if heard:
        await loop.resume(session)
    with pytest.raises(ApprovalError) as refused:
        await getattr(loop, second)(session, approval.interaction_id, digest=approval.digest)
    assert (refused.value.code, refused.value.interaction_id, refused.value.reason) == (
        "approval.invalid", approval.interaction_id, "decided",
    )  # fmt: skip
    await loop.resume(session)
    assert till.paid == [5]
    assert len(await bank.records(loop, session, Decided)) == 1


# acceptance: 125 (void for another digest)
async def test_a_decision_about_something_else_is_refused(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till)
    for digest in (digest_of(approval.tool_call_id, "pay", {"euros": 6}), ""):
        with pytest.raises(ApprovalError, match="digest") as refused:
            await loop.approve(session, approval.interaction_id, digest=digest)
        assert refused.value.reason == "digest"
    with pytest.raises(ApprovalError) as refused:
        await loop.approve(session, "input_nobody", digest=approval.digest)
    assert refused.value.reason == "unknown"
    assert await loop.list_approvals(session) == [approval]
    assert (await loop.resume(session)).status == "waiting_for_input"


async def test_misuse_is_named(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till)
    with pytest.raises(TypeError, match="digest="):
        await loop.approve(session, approval.interaction_id, digest=None)
    with pytest.raises(TypeError, match="by="):
        await loop.deny(session, approval.interaction_id, digest=approval.digest, by=7)
    with pytest.raises(SessionNotFoundError):
        await loop.approve("sess_nobody", approval.interaction_id, digest=approval.digest)
    with pytest.raises(SessionNotFoundError):
        await loop.list_approvals("sess_nobody")
    with pytest.raises(ValueError, match=r"approve\(\) or deny\(\)"):
        await loop.submit_input(session, approval.interaction_id, "yes")
    await (await loop.ensure_store()).archive_session(session)
    with pytest.raises(SessionArchivedError):
        await loop.approve(session, approval.interaction_id, digest=approval.digest)
    await loop.aclose()
    for verb in (loop.approve, loop.deny):
        with pytest.raises(RuntimeError, match="after aclose"):
            await verb(session, approval.interaction_id, digest=approval.digest)


async def test_listeners_hear_of_the_request_and_of_the_decision(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till, ttl_s=60)
    await loop.approve(session, approval.interaction_id, digest=approval.digest, by="ann")
    await loop.resume(session)
    what = {
        "interaction_id": approval.interaction_id, "tool_call_id": approval.tool_call_id, "name": "pay", "arguments": {"euros": 5},
        "digest": approval.digest, "expires_at": approval.expires_at,
    }  # fmt: skip
    assert till_bank.told("approval_requested") == [what]
    assert till_bank.told("approval_decided") == [{**what, "approved": True, "by": "ann"}]
    live = {event.cursor: event.to_dict() for event in till_bank.heard if str(event.type).startswith("approval")}
    watcher = await till_bank.loop(till, PAY)
    again = {event.cursor: event.payload async for event in watcher.watch(session, follow=False) if str(event.type).startswith("approval")}
    assert again == {cursor: told["payload"] for cursor, told in live.items()}


# acceptance: 125 (visible from the root)
async def test_approvals_of_sessions_below_are_listed_and_decided_at_the_root(bank: Any, till: Any) -> None:
    loop = await bank.loop(till, PAY)
    store = await loop.ensure_store()
    root = await loop.new_session()
    child = await store.create_session(parent_session_id=root, kind="subagent", agent="agent")
    grandchild = await store.create_session(parent_session_id=child, kind="subagent", agent="agent")
    for session in (child, grandchild):
        await loop.send("pay 5", session)
    first, second = await loop.list_approvals(root)
    assert (first.session_id, second.session_id) == (child, grandchild)
    assert await loop.list_approvals(root, tree=False) == []
    await loop.approve(root, second.interaction_id, digest=second.digest)
    assert await loop.list_approvals(root) == [first]
    for at in (root, child, grandchild):
        with pytest.raises(ApprovalError) as refused:
            await loop.deny(at, second.interaction_id, digest=second.digest)
        assert refused.value.reason == "decided"
    assert (await loop.resume(grandchild)).final_text == "so: paid 5"
    with pytest.raises(ApprovalError) as refused:
        await loop.approve(root, second.interaction_id, digest=second.digest)
    assert refused.value.reason == "decided"
