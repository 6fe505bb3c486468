"""The simulation sees what it is for: each of these faults, put in on purpose, makes it report violations."""

from __future__ import annotations

import asyncio

import pytest

import power_loop.kernel.decide as decide
import power_loop.runtime.run_tools as run_tools
import power_loop.runtime.session as session
import power_loop.store.log as log
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.inbox import Inbox
from power_loop.testing.conversation import conversation
from power_loop.testing.simulate import simulate

# Far more than the mutation that hides best needs; most show within a few dozen.
SEEDS = 3000


def caught() -> list[str]:
    """What the first failing seed says."""
    return [violation.text for violation in simulate(conversation, SEEDS, max_failures=1).violations]


# acceptance: 185 (no epoch in the fence)
def test_a_fence_without_the_epoch_is_noticed(monkeypatch):
    monkeypatch.setattr(log, "FENCE", log.FENCE.replace("AND epoch = ?", "AND ? IS NOT NULL"))
    assert caught()


# acceptance: 185 (SELECT, then INSERT)
def test_a_fence_that_looks_first_and_writes_then_is_noticed(monkeypatch):
    fenced = log.RecordLog.append

    async def looks_first(self, batch):
        head = await self.look(batch.seen.session_id)
        if (head.epoch, head.head, head.wake_no) != (batch.seen.epoch, batch.seen.head, batch.seen.wake_no):
            raise Conflict
        await fenced(self, batch)

    guards = "AND epoch = ? AND head = ? AND wake_no = ? AND lease_until < ?"
    monkeypatch.setattr(log, "FENCE", log.FENCE.replace(guards, "AND ? + ? + ? + ? IS NOT NULL"))
    monkeypatch.setattr(log.RecordLog, "append", looks_first)
    assert caught()


# acceptance: 185 (an unknown COMMIT resolved by seq alone)
def test_resolving_an_unknown_commit_without_epoch_and_take_id_is_noticed(monkeypatch):
    async def something_is_there(self, batch, mark):
        seq = batch.rows[-1].seq if batch.rows else batch.next.head
        return bool(await self._database.read(self._sql(log.MINE), (batch.seen.session_id, seq)))

    monkeypatch.setattr(log.RecordLog, "_is_there", something_is_there)
    assert caught()


# acceptance: 185 (acknowledged before the commit)
def test_a_post_that_is_acknowledged_before_it_is_written_is_noticed(monkeypatch):
    written = Inbox.post
    begun = set()

    async def acknowledges_at_once(self, *args, **kwargs):
        task = asyncio.ensure_future(written(self, *args, **kwargs))
        task.add_done_callback(lambda done: done.exception())
        begun.add(task)
        return True

    monkeypatch.setattr(Inbox, "post", acknowledges_at_once)
    assert caught()


# acceptance: 185 (release without the wake_no guard)
def test_a_release_that_does_not_look_at_wake_no_is_noticed(monkeypatch):
    guarded = log.RecordLog._statements

    def releases_blindly(self, batch, mark):
        first, *rest = guarded(self, batch, mark)
        if batch.next.holder is None:
            first = Statement(first.sql.replace("AND wake_no = ?", "AND ? IS NOT NULL"), first.params, first.touches)
        return [first, *rest]

    monkeypatch.setattr(log.RecordLog, "_statements", releases_blindly)
    assert caught()


def test_repeating_what_may_happen_once_is_noticed(monkeypatch):
    monkeypatch.setattr(decide, "interrupted", lambda state, effects_of: ())
    assert caught()


def test_running_a_tool_before_its_start_is_written_is_noticed(monkeypatch):
    monkeypatch.setattr(run_tools, "ToolStarted", None)
    prepared = run_tools.prepare

    async def leaves_no_trace(send, call):
        found = await prepared(send, call)
        if found is not None:
            found.leaves_a_trace = False
        return found

    monkeypatch.setattr(run_tools, "prepare", leaves_no_trace)
    assert caught()


def test_believing_rows_that_the_row_does_not_know_yet_is_noticed(monkeypatch):
    add = session.Session._add
    monkeypatch.setattr(session.Session, "_add", add)

    async def refresh(self, store):
        head = await store.look(self.head.session_id)
        rows = await store.rows(head.session_id, after=self.head.head, whole_from=0) if head.head > self.head.head else []
        self._add(rows, 0)
        self.waiting = await store.inbox(head.session_id) if head.waiting else []
        self.head = head

    monkeypatch.setattr(session.Session, "refresh", refresh)
    assert caught()


def test_without_a_fault_the_same_seeds_find_nothing():
    assert not simulate(conversation, range(100)).violations


if __name__ == "__main__":
    pytest.main([__file__, "-q"])
