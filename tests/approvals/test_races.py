"""Two approvers, and somebody who gives up or goes on, in many orders of their reads and writes: one decision counts."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import engines
import pytest
from proofs.interleavings import Stepping, Turns

from power_loop import ApprovalError, SessionStore, StatefulAgentLoop, tool
from power_loop.contracts.codec import from_cells
from power_loop.contracts.records import Decided, ToolReturned
from power_loop.testing import FunctionLLM, call, calls, check_invariants

PAY = call("pay", euros=5)
# Of all the orders there are; on a server each step is a journey.
ORDERS = {engine: 30 if engine in engines.IN_PROCESS else 8 for engine in engines.ALL}
STEPS = 80


class Race:
    """One order: every player has a way of its own into the database, and takes its turns there."""

    def __init__(self, bank: Any, till: Any, store: SessionStore, turns: Turns) -> None:
        self._bank, self._till, self._store, self._turns = bank, till, store, turns
        self.said: dict[str, bool] = {}
        """Per approver who was told that the decision stands: what it was."""
        self.refused: dict[str, str] = {}
        self.given_up = 0

    def loop(self, player: str) -> StatefulAgentLoop:
        way = Stepping(self._store.database, self._turns, player)
        store = SessionStore(way, self._store.dialect, self._store.table_prefix, clock=self._bank.clock)
        return StatefulAgentLoop(llm=FunctionLLM(lambda request: "done"), store=store, tools=self._till.tools(), name=player)

    async def decides(self, name: str, session: str, approval: Any, *, approves: bool) -> None:
        loop = self.loop(name)
        verb = loop.approve if approves else loop.deny
        try:
            await verb(session, approval.interaction_id, digest=approval.digest, by=name)
        except ApprovalError as error:
            self.refused[name] = error.reason
        else:
            self.said[name] = approves

    async def gives_up(self, session: str) -> None:
        self.given_up = await self.loop("giver-up").abort_pending(session)

    async def goes_on(self, session: str) -> None:
        await self.loop("driver").resume(session)


# acceptance: 125 (decided once under a race of two approvers and a cancel)
@pytest.mark.parametrize("third", ["gives_up", "goes_on"])
@pytest.mark.parametrize("verdicts", [(True, True), (True, False)])
async def test_one_decision_counts_and_the_call_has_one_outcome(bank: Any, till: Any, third: str, verdicts: Any, request: Any) -> None:
    chance, outcomes = random.Random(f"{third} {verdicts}"), set[str]()
    for _ in range(ORDERS[request.node.callspec.params["bank"]]):
        till.paid.clear()
        loop, session, approval = await bank.waiting(till)
        store = await loop.ensure_store()
        turns = Turns([chance.randrange(4) for _ in range(STEPS)])
        race = Race(bank, till, store, turns)
        ann = race.decides("ann", session, approval, approves=verdicts[0])
        bob = race.decides("bob", session, approval, approves=verdicts[1])
        await turns.play(ann, bob, getattr(race, third)(session))
        await loop.resume(session)
        records = [from_cells(row.cells) for row in await store.rows(session, after=0)]
        outcomes.add(check(race, till, records))
        assert await check_invariants(store, sessions=[session], at_rest=True) == []
        await loop.aclose()
    wanted = {"aborted"} if third == "gives_up" else {"ok", *(["denied"] if False in verdicts else [])}
    assert outcomes == wanted or (outcomes < wanted and ORDERS[request.node.callspec.params["bank"]] < 10), "every outcome occurred"


def check(race: Race, till: Any, records: list[Any]) -> str:
    """Nobody was misled; the outcome of the call."""
    (returned,) = [record for record in records if isinstance(record, ToolReturned)]
    decided = [record for record in records if isinstance(record, Decided)]
    assert len(race.said) <= 1, f"two were told that theirs counts: {race.said}"
    assert [made.by for made in decided] == [*race.said], "what was acknowledged is on record, and nothing else"
    assert (returned.outcome == "aborted") == bool(race.given_up)
    if returned.outcome == "ok":
        assert (till.paid, [*race.said.values()], [made.approved for made in decided]) == ([5], [True], [True])
    else:
        assert till.paid == []
    if returned.outcome == "denied":
        assert ([*race.said.values()], [made.approved for made in decided]) == ([False], [False])
    assert set(race.refused.values()) <= {"decided", "unknown"}
    return returned.outcome


def holding(held: asyncio.Event) -> Any:
    """A tool that never ends by itself."""

    @tool
    async def hold(at: str) -> str:
        """Hold."""
        held.set()
        await asyncio.Event().wait()
        return at

    return hold


# acceptance: 125 (a cancel of the send that runs)
@pytest.mark.parametrize("verdicts", [(True, True), (True, False)])
async def test_a_cancel_of_the_running_send_meets_two_approvers(bank: Any, till: Any, verdicts: Any, request: Any) -> None:
    """The send runs, since a sibling does; whoever is first, the call is answered once, and what was approved too late runs never."""
    chance = random.Random(f"cancel {verdicts}")
    for _ in range(ORDERS[request.node.callspec.params["bank"]] // 2):
        held = asyncio.Event()
        loop = await bank.loop(till, calls(PAY, call("hold", at="home")), tools=[*till.tools(), holding(held)])
        session, store = await loop.new_session(), await loop.ensure_store()
        sending = asyncio.create_task(loop.send("pay and hold", session))
        await held.wait()
        (approval,) = await loop.list_approvals(session)
        turns = Turns([chance.randrange(4) for _ in range(STEPS)])
        race = Race(bank, till, store, turns)

        async def cancels(loop: Any = loop, session: str = session, turns: Turns = turns) -> None:
            for _ in range(chance.randrange(4)):
                await turns.mine("canceller")
            await loop.cancel(session)

        ann = race.decides("ann", session, approval, approves=verdicts[0])
        bob = race.decides("bob", session, approval, approves=verdicts[1])
        await turns.play(ann, bob, cancels())
        assert (await sending).status == "cancelled"
        records = [from_cells(row.cells) for row in await store.rows(session, after=0)]
        returned = {record.name: record.outcome for record in records if isinstance(record, ToolReturned)}
        assert returned["pay"] in ("aborted", "denied")
        assert till.paid == []
        assert len(race.said) <= 1
        assert {record.by for record in records if isinstance(record, Decided)} <= set(race.said)
        assert await check_invariants(store, sessions=[session], at_rest=True) == []
        await loop.aclose()
