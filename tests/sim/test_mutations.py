"""The suites see what they are for: each of these faults, put in on purpose, makes one of them fail. Without one they find nothing.

``synchronous=OFF`` is not among them: nothing short of a power cut tells it from FULL, so it is held against the
replayer of disk states, not against a simulation.
"""

from __future__ import annotations

import asyncio

import power_loop.kernel.decide as decide
import power_loop.runtime.drive as drive
import power_loop.runtime.end_send as end_send
import power_loop.runtime.run_tools as run_tools
import power_loop.runtime.session as session
import power_loop.store.log as log
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.inbox import Inbox
from power_loop.store.sql_store import open_store
from power_loop.testing.faults import kill
from power_loop.testing.scenario import conversation
from power_loop.testing.simulation import simulate
from power_loop.testing.store_contract import StoreContract
from power_loop.testing.sweep import at_every_gap, cancel_the_task, enqueue, take_over, take_over_half
from power_loop.testing.talk import HOOK_POINTS


def seeds_fail(seeds=300):
    return simulate(conversation, seeds, max_failures=1).violations


def sweep_fails(*strikes, points=()):
    return any(at_every_gap(strike, points).violations for strike in strikes)


def claim_fails(name):
    """A claim of the store contract does not hold."""

    async def check():
        store = await open_store(":memory:")
        try:
            await getattr(StoreContract(), name)(store)
        finally:
            await store.close()

    try:
        asyncio.run(check())
    except (AssertionError, Conflict):
        return True
    return False


# acceptance: 185 (no epoch in the fence)
def test_a_fence_without_the_epoch_is_noticed(monkeypatch):
    monkeypatch.setattr(log, "FENCE", log.FENCE.replace("AND epoch = ?", "AND ? IS NOT NULL"))
    assert claim_fails("test_a_take_without_records_fences_as_well")
    assert sweep_fails(take_over_half, take_over)


# acceptance: 185 (SELECT, then INSERT)
def test_a_fence_that_looks_first_and_writes_then_is_noticed(monkeypatch):
    fenced = log.RecordLog.append

    async def looks_first(self, batch):
        head = await self.look(batch.seen.session_id)
        if (head.epoch, head.head, head.wake_no) != (batch.seen.epoch, batch.seen.head, batch.seen.wake_no):
            raise Conflict
        await fenced(self, batch)

    guards = "AND epoch = ? AND head = ? AND wake_no = ? AND lease_until < {t}"
    assert guards in log.FENCE
    monkeypatch.setattr(log, "FENCE", log.FENCE.replace(guards, "AND ? + ? + ? + ? IS NOT NULL"))
    monkeypatch.setattr(log.RecordLog, "append", looks_first)
    assert sweep_fails(take_over, enqueue)


# acceptance: 185 (an unknown COMMIT resolved without epoch and take_id)
def test_resolving_an_unknown_commit_by_its_place_alone_is_noticed(monkeypatch):
    async def something_is_there(self, batch, mark):
        seq = batch.rows[-1].seq if batch.rows else batch.next.head
        return bool(await self._database.read(self._sql(log.MINE), (batch.seen.session_id, seq)))

    monkeypatch.setattr(log.RecordLog, "_is_there", something_is_there)
    assert claim_fails("test_a_take_whose_commit_raised_is_not_mistaken_for_a_rivals")


# acceptance: 185 (acknowledged before the commit)
def test_a_post_that_is_acknowledged_before_it_is_written_is_noticed(monkeypatch):
    written, begun = Inbox.post, []

    async def acknowledges_at_once(self, *args, **kwargs):
        task = asyncio.ensure_future(written(self, *args, **kwargs))
        task.add_done_callback(lambda done: done.exception())
        begun.append(task)
        return True

    monkeypatch.setattr(Inbox, "post", acknowledges_at_once)
    assert claim_fails("test_the_same_key_counts_once_and_only_in_its_session")
    assert seeds_fail()


# acceptance: 185 (release without the wake_no guard)
def test_a_release_that_does_not_look_at_wake_no_is_noticed(monkeypatch):
    guarded = log.RecordLog._statements

    def releases_blindly(self, batch, mark):
        first, *rest = guarded(self, batch, mark)
        if batch.next.holder is None:
            first = Statement(first.sql.replace("AND wake_no = ?", "AND ? IS NOT NULL"), first.params, first.touches)
        return [first, *rest]

    monkeypatch.setattr(log.RecordLog, "_statements", releases_blindly)
    assert claim_fails("test_a_post_in_between_refuses_the_next_batch_whatever_it_is")
    assert sweep_fails(enqueue)


def test_repeating_what_may_happen_once_is_noticed(monkeypatch):
    monkeypatch.setattr(decide, "interrupted", lambda state, effects_of: ())
    assert sweep_fails(kill)


def test_running_a_tool_before_its_start_is_written_is_noticed(monkeypatch):
    prepared = run_tools.prepare

    async def leaves_no_trace(send, call, position):
        found = await prepared(send, call, position)
        if found is not None:
            found.leaves_a_trace = False
        return found

    monkeypatch.setattr(run_tools, "prepare", leaves_no_trace)
    assert sweep_fails(kill)


def test_counting_rows_twice_that_came_between_two_reads_is_noticed(monkeypatch):
    async def refresh(self, store):
        head, after = await store.look(self.head.session_id), self.head.head
        self._add(await store.rows(head.session_id, after=after, whole_from=0) if head.head > after else [], 0)
        self.waiting, self.head = (await store.inbox(head.session_id) if head.waiting else []), head

    monkeypatch.setattr(session.Session, "refresh", refresh)
    assert seeds_fail()


def test_keeping_a_lease_that_a_cancelled_task_took_is_noticed(monkeypatch):
    async def nobody_knows(self, batch):
        return False

    monkeypatch.setattr(drive.Driver, "_was_taken", nobody_knows)
    assert sweep_fails(cancel_the_task)


def test_ending_a_send_over_a_word_that_was_just_heard_is_noticed(monkeypatch):
    monkeypatch.setattr(end_send, "ground_of", lambda send: None)
    assert sweep_fails(enqueue, points=HOOK_POINTS)
