"""An approval that nobody gave in time: later decisions are refused, and the next run tells the model."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import ApprovalError, HumanInputRequired, Worker, tool
from power_loop.contracts.records import Decided
from power_loop.testing import call, calls

PAY = call("pay", euros=5)


@tool
def ask() -> str:
    """Ask."""
    raise HumanInputRequired("Which colour?")


# acceptance: 125 (expiry)
@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_a_decision_that_comes_too_late_is_refused_and_the_model_is_told(bank: Any, till: Any, verb: str) -> None:
    loop, session, approval = await bank.waiting(till, ttl_s=60)
    assert approval.expires_at == approval.requested_at + 60_000
    bank.clock.passed_s = 61
    assert await loop.list_approvals(session) == []
    for _ in range(2):
        with pytest.raises(ApprovalError) as refused:
            await getattr(loop, verb)(session, approval.interaction_id, digest=approval.digest)
        assert refused.value.reason == "expired"
    result = await loop.resume(session)
    assert (result.status, result.final_text) == ("completed", "so: Denied: pay was not run. Note: nobody decided in time")
    assert till.paid == []
    assert bank.told("tool_call_completed")[0]["outcome"] == "denied"
    (made,) = await bank.records(loop, session, Decided)
    assert (made.approved, made.by, made.digest) == (False, None, approval.digest)


async def test_a_decision_in_time_stands_however_late_it_is_heard(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till, ttl_s=60)
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    bank.clock.passed_s = 1000
    assert (await loop.resume(session)).final_text == "so: paid 5"


async def test_before_its_time_a_resume_leaves_it_alone(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till, ttl_s=60)
    till_bank.clock.passed_s = 59
    assert (await loop.resume(session)).status == "waiting_for_input"
    assert await loop.list_approvals(session) == [approval]


async def test_one_runs_out_while_another_waits_on(till_bank: Any, till: Any) -> None:
    loop = await till_bank.loop(till, calls(PAY, call("ask")), ttl_s=60, tools=[*till.tools(), ask])
    session = await loop.new_session()
    await loop.send("go", session)
    till_bank.clock.passed_s = 61
    result = await loop.resume(session)
    assert result.status == "waiting_for_input"
    (question,) = result.pending_interactions
    assert question["kind"] == "text"
    done = await loop.submit_input(session, question["interaction_id"], "blue")
    assert done.final_text == "so: Denied: pay was not run. Note: nobody decided in time | blue"


async def test_the_doctor_names_it_and_puts_it_right(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till, ttl_s=60)
    (waits,) = (await loop.doctor(session)).findings
    assert (waits.code, waits.automatic) == ("parked_call", False)
    assert f"approve(session, {approval.interaction_id!r}, digest=...)" in waits.fix
    till_bank.clock.passed_s = 61
    diagnosis = await loop.doctor(session)
    (finding,) = diagnosis.findings
    assert (diagnosis.state, finding.code, finding.call_id) == ("waiting", "expired_approval", approval.tool_call_id)
    repaired = await loop.doctor(session, repair=True)
    assert (repaired.state, repaired.findings) == ("idle", ())
    assert till.paid == []


async def test_a_decision_on_its_way_is_no_finding_of_an_expiry(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till, ttl_s=60)
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    till_bank.clock.passed_s = 61
    assert {finding.code for finding in (await loop.doctor(session)).findings} == {"open_call", "inbox_waiting"}
    await loop.doctor(session, repair=True)
    assert (await loop.resume(session)).final_text == "so: paid 5", "a repair did not take the decision away"


# acceptance: 125 (a worker)
async def test_a_worker_goes_on_with_what_was_decided(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till)
    worker = Worker(await bank.loop(till, PAY))
    assert await worker.run_once() == 0
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    assert await worker.run_once() == 1
    assert (till.paid, (await loop.resume(session)).final_text) == ([5], "so: paid 5")


async def test_a_worker_looks_again_when_the_time_has_run_out(till_bank: Any, till: Any) -> None:
    loop = await till_bank.loop(till, PAY, ttl_s=3600)
    session = await loop.new_session()
    await loop.enqueue("pay 5", session)
    worker = Worker(await till_bank.loop(till, PAY, ttl_s=3600))
    assert await worker.run_once() == 1
    assert len(await loop.list_approvals(session)) == 1
    assert await worker.run_once() == 0
    till_bank.clock.passed_s = 3700
    assert await worker.run_once() == 1
    assert (await loop.resume(session)).final_text == "so: Denied: pay was not run. Note: nobody decided in time"
