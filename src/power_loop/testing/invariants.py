"""What must be true of a store, whatever happened to the processes that wrote it.

`check_invariants` reads every session and names what does not hold. A test calls it last; an operator may call it
on a copy of a live database. The numbers I1 to I23 are those of docs/durability.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from power_loop.context.transcript import Transcript
from power_loop.contracts.codec import from_cells
from power_loop.contracts.messages import Message
from power_loop.contracts.store import RecordRow, Tally
from power_loop.kernel.history import History
from power_loop.kernel.state import State
from power_loop.store.log import COLUMNS, to_row
from power_loop.store.sql_store import SessionStore

COUNTERS = "sends, rounds, llm_calls, tool_calls, prompt_tokens, completion_tokens, cost"


async def check_invariants(
    store: SessionStore, *, acknowledged: Iterable[tuple[str, str]] = (), at_rest: bool = False, sessions: Iterable[str] | None = None
) -> list[str]:
    """Everything that does not hold, each with its session; an empty list when all is well.

    ``acknowledged``: (session id, key) of the posts that were confirmed to a caller. ``at_rest``: nobody runs any
    more, so no lease is held and nothing waits. ``sessions``: only these, and not what spans all of them.
    """
    found: list[str] = []
    if sessions is None:
        found += [*await _integrity(store), *await _orphans(store)]
        sessions = [row[0] for row in await _read(store, "SELECT session_id FROM {p}sessions ORDER BY session_id")]
    for session_id in sessions:
        found += await _session(store, session_id, at_rest)
    for session_id, key in acknowledged:
        if not await _read(store, "SELECT 1 FROM {p}inbox WHERE session_id = ? AND item_key = ?", session_id, key):
            found.append(f"{session_id}: I1 the acknowledged item {key!r} is gone")
    return found


class SessionWatch:
    """Holds one session's rows, in order of seq, against what every prefix of a log must be."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.epoch: int = 0
        self.history: History = History()
        self._takes: dict[int, int] = {}
        self._transcript = Transcript()

    @property
    def seq(self) -> int:
        return self.history.seq

    def add(self, row: RecordRow) -> list[str]:
        """What is wrong with ``row`` where it stands."""
        record = from_cells(row.cells)
        wrong = [*(f"I6 {text}" for text in self.history.misplaced(row, record)), *self._out_of_turn(row)]
        wrong += [f"I8 {text}" for text in self.history.out_of_order(record)]
        self.epoch = row.epoch
        self.history.add(row, record)
        self._transcript.add(row)
        wrong += protocol_errors(closed(self._transcript, self.history.state))
        return [f"{self.session_id} seq {row.seq} ({row.cells.kind}): {text}" for text in wrong]

    def _out_of_turn(self, row: RecordRow) -> Iterable[str]:
        if row.epoch < self.epoch:
            yield f"I5 epoch {row.epoch} writes after epoch {self.epoch}"
        if row.take_id is not None and self._takes.setdefault(row.epoch, row.take_id) != row.take_id:
            yield f"I4 two holders took epoch {row.epoch}"
        if row.take_id is None and row.epoch > self.epoch and row.epoch in self._takes:
            yield f"I4 epoch {row.epoch} was taken twice"


def closed(transcript: Transcript, state: State) -> list[Message]:
    """The transcript as a provider would see it if every open call were answered now."""
    messages = transcript.with_open_round()
    asked_at = max((at for at, message in enumerate(messages) if "tool_calls" in message), default=None)
    if not state.open_calls or asked_at is None:
        return messages
    results: dict[str, Message] = {call.id: {"role": "tool", "tool_call_id": call.id, "content": "?"} for call in state.open_calls}
    results |= {message["tool_call_id"]: message for message in messages[asked_at + 1 :] if message["role"] == "tool"}
    others = [message for message in messages[asked_at + 1 :] if message["role"] != "tool"]
    return messages[: asked_at + 1] + [results[call.id] for call in state.asked if call.id in results] + others


def protocol_errors(messages: list[Message]) -> list[str]:
    """Where ``messages`` break what every provider wants: calls answered once, in order, with nothing in between."""
    wrong: list[str] = []
    due: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if not due or message["tool_call_id"] != due[0]:
                wrong.append(f"I8 message {at} answers {message['tool_call_id']}; due is {due[0] if due else 'nothing'}")
            due = due[1:]
            continue
        if due:
            wrong.append(f"I8 message {at} ({message['role']}) stands before the answers to {due}")
        due = [call["id"] for call in message.get("tool_calls", ())]
    return wrong + ([f"I8 no answer to {due}"] if due else [])


async def _read(store: SessionStore, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    return await store.database.read(sql.replace("{p}", store.table_prefix), params)


async def _session(store: SessionStore, session_id: str, at_rest: bool) -> list[str]:
    watch = SessionWatch(session_id)
    wrong: list[str] = []
    for row in await _read(store, f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? ORDER BY seq", session_id):
        wrong += watch.add(to_row(row))
    names = f"head, epoch, holder, lease_until, send_index, send_seq, fold_seq, runnable_at, {COUNTERS}"
    ((*values,),) = await _read(store, f"SELECT {names} FROM {{p}}sessions WHERE session_id = ?", session_id)
    thin: dict[str, Any] = dict(zip(names.split(", "), values, strict=True))
    inbox = await _read(store, "SELECT item_id, kind, name, mode, heard_seq FROM {p}inbox WHERE session_id = ?", session_id)
    wrong += [f"{session_id}: {text}" for text in [*_row_fits(thin, watch), *_inbox_fits(thin, inbox)]]
    if at_rest:
        wrong += [f"{session_id}: {text}" for text in _rests(thin, inbox, watch.history.state, store.clock.now_ms())]
    return wrong


def _row_fits(thin: Mapping[str, Any], watch: SessionWatch) -> Iterable[str]:
    """The thin row says what the records say."""
    if thin["head"] != watch.seq:
        yield f"I6 head is {thin['head']}, the last record {watch.seq}"
    if thin["epoch"] < watch.epoch:
        yield f"I4 the row's epoch {thin['epoch']} is older than its last record's, {watch.epoch}"
    history = watch.history
    if (thin["send_index"], thin["send_seq"], thin["fold_seq"]) != (history.send_index, history.send_seq, history.fold_seq):
        yield (
            f"I6 the row points at send {thin['send_index']} from {thin['send_seq']}, fold {thin['fold_seq']}; "
            f"the records say {history.send_index} from {history.send_seq}, fold {history.fold_seq}"
        )
    if (thin["holder"] is None) != (thin["lease_until"] == 0):
        yield f"I4 holder {thin['holder']!r} with a lease until {thin['lease_until']}"
    counted = Tally(*(thin[name] for name in COUNTERS.split(", ")))
    if counted[:-1] != history.tally[:-1] or abs(counted.cost - history.tally.cost) > 1e-9 * max(1.0, counted.cost):
        yield f"I23 the counters are {counted}, the records amount to {history.tally}"


def _inbox_fits(thin: Mapping[str, Any], inbox: list[tuple[Any, ...]]) -> Iterable[str]:
    for item_id, kind, name, _, heard_seq in inbox:
        # What came too late, or what a handler kept out of a timer's note, is dropped, perhaps before the first record.
        enters = kind == "user_said" and name != "timer"
        if heard_seq is not None and not enters <= heard_seq <= thin["head"]:
            yield f"I2 item {item_id} ({kind}) was heard at {heard_seq}, which no record has"
    if _awaited(inbox) and thin["runnable_at"] is None and thin["holder"] is None:
        yield "I19 something waits, and nothing says that the session may run"


def _awaited(inbox: list[tuple[Any, ...]]) -> list[int]:
    """The items that somebody should come for; what stands aside is heard by whoever comes next."""
    return [item_id for item_id, _, _, mode, heard_seq in inbox if heard_seq is None and mode != "aside"]


def _rests(thin: Mapping[str, Any], inbox: list[tuple[Any, ...]], state: State, now: int) -> Iterable[str]:
    if thin["lease_until"] > now:
        yield f"I19 at rest {thin['holder']!r} still holds the lease"
    if words := _awaited(inbox):
        yield f"I19 at rest the items {words} still wait"
    if not state.idle and not (state.open_calls and all(call.id in state.parked for call in state.open_calls)):
        yield f"I19 at rest the send goes on: open {[call.id for call in state.open_calls]}, status {state.status!r}"


async def _orphans(store: SessionStore) -> list[str]:
    """Rows whose session is gone."""
    wrong: list[str] = []
    for table in ("records", "inbox", "session_info", "send_keys"):
        sql = f"SELECT DISTINCT session_id FROM {{p}}{table} WHERE session_id NOT IN (SELECT session_id FROM {{p}}sessions)"
        wrong += [f"{session_id}: I20 {table} has rows of a session that does not exist" for (session_id,) in await _read(store, sql)]
    return wrong


async def _integrity(store: SessionStore) -> list[str]:
    if store.dialect.name != "sqlite":
        return []
    rows = await _read(store, "PRAGMA integrity_check")
    return [f"I20 {row[0]}" for row in rows if row[0] != "ok"]
