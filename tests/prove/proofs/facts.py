"""What a talk left behind, held against what it told its caller: everything confirmed is there, nothing denied is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.sql_store import SessionStore
from power_loop.testing.invariants import check_invariants


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines that a process wrote; the last one may have been cut off with it."""
    path = folder / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]


def acks(text: str) -> list[tuple[str, str]]:
    """(verb, word) of what was confirmed."""
    return [(verb, word) for line in text.split("\n")[:-1] for verb, _, word in [line.partition(" ")]]


async def look_at(folder: Path, dsn: str, session: str, *, at_rest: bool = False, whole: bool = False) -> list[str]:
    """Everything that is wrong with this talk; ``whole``: with all of its database, which nobody else uses."""
    path = folder / "acks"
    try:
        store = await SessionStore.open(dsn)
    except StoreUnavailable as error:
        return [f"it cannot be opened: {error}"]
    try:
        wrong = await missing(store, session, acks(path.read_text() if path.exists() else ""), at_rest, whole)
        stored = [*await rows(store, session), *await items(store, session)]
        return [*wrong, *denied(stored, told(folder, "batches")), *twice(folder)]
    finally:
        await store.close()


async def missing(
    store: SessionStore, session: str, confirmed: list[tuple[str, str]], at_rest: bool = False, whole: bool = False
) -> list[str]:
    """Invariants, and what was confirmed and is not there."""
    here = await _read(store, "SELECT session_id FROM {p}sessions WHERE session_id = ?", session)
    if not here:
        gone = ["I1 the session is gone"] if ("session", session) in confirmed else []
        return [*gone, *(await check_invariants(store) if whole else [])]
    posts = [(session, word) for verb, word in confirmed if verb == "post"]
    wrong = await check_invariants(store, acknowledged=posts, at_rest=at_rest, sessions=None if whole else [session])
    said = Counter(content for _, _, _, kind, content, _ in await rows(store, session) if kind == "user_said")
    ended = {at for (at,) in await _read(store, "SELECT send_index FROM {p}records WHERE session_id = ? AND kind = 'send_ended'", session)}
    by_key = dict(await _read(store, "SELECT send_key, send_index FROM {p}send_keys WHERE session_id = ?", session))
    for word in {word for verb, word in confirmed if verb == "send"}:
        if said[word] != 1 or by_key.get(word) not in ended:
            wrong.append(f"I1 the send {word!r} was confirmed, and is there {said[word]} times, as {by_key.get(word)} of {sorted(ended)}")
    return [*wrong, *(f"I3 {word!r} was said {count} times" for word, count in said.items() if count > 1)]


def denied(stored: list[Any], batches: list[dict[str, Any]]) -> list[str]:
    """I21: what a caller was told of a row or an item is so. What was refused first may be written with a later batch."""
    outcomes: dict[str, set[str]] = {}
    for batch in batches:
        for what in batch.get("rows") or [batch[key] for key in ("item",) if key in batch]:
            outcomes.setdefault(json.dumps(what), set()).add(batch["outcome"])
    there = {json.dumps(what) for what in stored}
    wrong = [f"I21 confirmed, and not there: {what}" for what, known in outcomes.items() if "written" in known and what not in there]
    for what, known in outcomes.items():
        # A post that is repeated under its key is refused because it is there.
        if what in there and known <= {"refused", "not written"} and "not written" in known:
            wrong.append(f"I21 said not to be written, and there: {what}")
    return wrong


def twice(folder: Path) -> list[str]:
    """What tools did more often than they may, or under another key."""
    effects = told(folder, "effects")
    once = Counter(effect["n"] for effect in effects if effect["effects"] == "once")
    keys = {(effect["n"], effect["key"]) for effect in effects}
    wrong = [f"I11 {n!r} happened {count} times" for n, count in once.items() if count > 1]
    return wrong + [f"I11 {n!r} came with {count} keys" for n, count in Counter(n for n, _ in keys).items() if count > 1]


async def rows(store: SessionStore, session: str) -> list[list[Any]]:
    found = await _read(store, "SELECT seq, epoch, take_id, kind, content, call_id FROM {p}records WHERE session_id = ?", session)
    return [list(row) for row in found]


async def items(store: SessionStore, session: str) -> list[str]:
    return [key for (key,) in await _read(store, "SELECT item_key FROM {p}inbox WHERE session_id = ?", session)]


async def _read(store: SessionStore, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    return await store.database.read(sql.replace("{p}", store.table_prefix), params)
