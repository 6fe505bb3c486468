"""Real processes on one database, stopped and killed at random: nothing is lost, nothing is done twice, nobody is misled."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from power_loop import SessionStore
from power_loop.contracts.records import UserSaid
from power_loop.testing import check_invariants

# The long versions of these races: more of everything, by this factor.
LONGER = int(os.environ.get("POWER_LOOP_LONGER_RACES", "1"))
SEEDS = range(LONGER)

RECORDS = "SELECT session_id, seq, epoch, send_index, kind, content FROM pl_records ORDER BY session_id, seq"


async def records(store: SessionStore) -> dict[str, list[tuple[Any, ...]]]:
    """(seq, epoch, send_index, kind, content) of each session, in order."""
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for session_id, *rest in await store.database.read(RECORDS):
        found[session_id].append(tuple(rest))
    return found


# acceptance: 139, 135 (workers that are killed)
@pytest.mark.parametrize("seed", SEEDS)
async def test_four_workers_answer_every_queued_word_once_and_in_order_while_they_are_killed(
    crowd: Any, store: SessionStore, seed: int
) -> None:
    chance, sessions = random.Random(f"drain {seed}"), [f"s{n}" for n in range(50)]
    for session_id in sessions:
        await store.create_session(session_id=session_id, agent="agent")
    for n in range(200):
        assert await store.post(sessions[n % 50], UserSaid(f"word {n};"), key=f"k{n}", keyed=True)
        assert not await store.post(sessions[n % 50], UserSaid(f"word {n};"), key=f"k{n}", keyed=True)
    for n in range(4):
        crowd.start(f"w{n}", "work", seed=n)
    asked, killed, busy = 0, 0, set[str]()
    while asked < 40:
        name, what, _ = crowd.hear()
        asked += what == "asked"
        busy.add(name if what == "asked" else "")
        if what == "asked" and chance.random() < 0.3 and name in crowd.pids and killed < 8:
            crowd.kill(name)
            killed += 1
            crowd.start(f"{name}'", "work", seed=killed)
    for name in list(crowd.pids):
        ended = crowd.end(name)
        assert ended == 0 or name not in busy, "SIGTERM drains; but for one that has only just begun to live"
    crowd.start("last", "finish")
    assert crowd.wait("last") == 0
    assert killed >= 3
    for session_id, rows in (await records(store)).items():
        said = "".join(content for *_, kind, content in rows if kind == "user_said")
        numbers = [int(n) for n in re.findall(r"word (\d+);", said)]
        assert numbers == list(range(int(session_id[1:]), 200, 50)), (session_id, said)
        kinds = [kind for *_, kind, _ in rows if kind in ("user_said", "model_replied", "send_ended")]
        assert kinds.count("user_said") == kinds.count("model_replied"), "each answered once"
        assert kinds[-1] == "send_ended"
    assert await check_invariants(store, acknowledged=[(sessions[n % 50], f"k{n}") for n in range(200)], at_rest=True) == []


# acceptance: 82
async def test_processes_that_append_and_send_at_once_leave_no_gap_and_no_double(crowd: Any, store: SessionStore) -> None:
    await store.create_session(session_id="s", agent="agent")
    names = ["p0", "p1", "p2"]
    for name in names:
        crowd.start(name, "append", count=8)
    assert [crowd.wait(name) for name in names] == [0, 0, 0]
    rows = (await records(store))["s"]
    assert [seq for seq, *_ in rows] == list(range(1, len(rows) + 1))
    said = [content for *_, kind, content in rows if kind == "user_said"]
    assert sorted(said) == sorted(f"{name}.{n}" for name in names for n in range(8))
    assert await check_invariants(store, at_rest=True) == []


# acceptance: 141, 142 (real processes)
@pytest.mark.parametrize("seed", SEEDS)
async def test_eight_processes_that_steal_a_session_from_each_other_lose_nothing_that_was_acknowledged(
    crowd: Any, store: SessionStore, seed: int
) -> None:
    chance, numbers = random.Random(f"steal {seed}"), itertools.count()
    await store.create_session(session_id="s", agent="agent")

    def another() -> None:
        n = next(numbers)
        crowd.start(f"p{n}", "steal", seed=n, count=1000, lease_s=0.3, model_s=0.01)

    for _ in range(8):
        another()
    sent: list[str] = []
    lost: list[str] = []
    zombies = killed = 0
    while len(sent) < 60 * LONGER or not lost:
        heard = crowd.hear(timeout_s=2.0)
        if heard is None:  # who is stopped may hold the writer gate of a file
            _all_go_on(crowd)
            continue
        name, what, text = heard
        if what == "sent":
            sent.append(text)
        elif what == "lost":
            lost.append(text)
        if name not in crowd.pids:
            continue
        if what == "asked" and not crowd.stopped and chance.random() < 0.2:
            crowd.stop(name)  # with the lease in its hands
            zombies += 1
        elif what == "sent" and crowd.stopped:
            _all_go_on(crowd)  # somebody else was served, so the lease of the stopped one had run out
        elif what == "asked" and chance.random() < 0.1 and killed < 10 * LONGER:
            crowd.kill(name)
            killed += 1
            another()
    _all_go_on(crowd)
    for name in list(crowd.pids):
        crowd.kill(name)
    crowd.start("last", "finish")
    assert crowd.wait("last") == 0
    await _nothing_interleaves(store, sent, lost)
    assert await check_invariants(store) == []
    assert zombies
    assert killed


def _all_go_on(crowd: Any) -> None:
    for name in list(crowd.stopped):
        crowd.go_on(name)


async def _nothing_interleaves(store: SessionStore, sent: list[str], lost: list[str]) -> None:
    """Each send stands in one piece, under epochs that only grow; what was acknowledged is answered, once."""
    rows = (await records(store))["s"]
    epochs = [epoch for _, epoch, *_ in rows]
    assert epochs == sorted(epochs), "a row of an older epoch follows a newer one"
    assert [index for _, _, index, *_ in rows] == sorted(index for _, _, index, *_ in rows)
    answered = {content.removeprefix("answer to ") for *_, kind, content in rows if kind == "model_replied"}
    said = [content for *_, kind, content in rows if kind == "user_said"]
    assert set(sent) <= answered, "what was acknowledged is there"
    assert len(said) == len(set(said)), "and once"
    assert not set(lost) & set(sent), "who lost its lease was told so, and nothing else"


# acceptance: 138 (several processes, one of them is killed)
@pytest.mark.parametrize("seed", SEEDS)
async def test_one_key_in_many_processes_is_one_word_one_outcome_and_one_stored_reply(
    crowd: Any, store: SessionStore, tmp_path: Path, seed: int
) -> None:
    await store.create_session(session_id="s", agent="agent")
    for n in range(4):
        crowd.start(f"p{n}", "send_keyed", first_hangs=str(tmp_path / f"first {seed}"))
    name, what, _ = crowd.hear()
    assert what == "asked"
    crowd.kill(name)
    left, outcomes = set(crowd.pids), set()
    while left:
        name, what, text = crowd.hear()
        if what == "sent":
            outcomes.add(text)
            left.discard(name)
    assert [crowd.wait(name) for name in list(crowd.pids)] == [0] * 3
    assert outcomes == {"1 completed answer to pay the bill"}
    kinds = [kind for *_, kind, _ in (await records(store))["s"] if kind in ("user_said", "model_replied", "send_ended")]
    assert kinds == ["user_said", "model_replied", "send_ended"]
    assert await store.database.read("SELECT sends, llm_calls FROM pl_sessions") == [(1, 1)]
    assert await store.database.read("SELECT count(*) FROM pl_waiters") == [(0,)]
