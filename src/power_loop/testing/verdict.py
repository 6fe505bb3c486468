"""What must be true of a conversation once it rests: everything acknowledged is there, everything said is answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from power_loop.contracts.codec import from_cells
from power_loop.contracts.messages import text_of
from power_loop.contracts.records import ModelReplied, Record, SendEnded, SendResumed, ToolReturned, ToolStarted, UserSaid
from power_loop.contracts.store import RecordRow
from power_loop.store.log import COLUMNS, to_row
from power_loop.testing.invariants import check_invariants
from power_loop.testing.outside import PLAN, TOOL_EFFECTS
from power_loop.testing.talk import Talk
from power_loop.testing.world import World


async def verdict(talk: Talk) -> list[str]:
    """Everything that does not hold of the conversation as it stands."""
    wrong = await check_invariants(talk.world.onlooker(), at_rest=True)
    lost = sum(map(len, talk.outside.paid.values())) - len(talk.outside.stored_replies())
    if lost > talk.world.disturbances:
        wrong.append(f"{lost} replies were paid for and lost, after {talk.world.disturbances} disturbances")
    for session_id in talk.sessions:
        rows = records_of(talk.world, session_id)
        wrong += [f"{session_id}: {text}" for text in (*_content(talk, session_id, rows), *_effects(talk, rows))]
    return [*wrong, *_keys(talk)]


def records_of(world: World, session_id: str) -> list[tuple[RecordRow, Record]]:
    found = world.look(f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? ORDER BY seq", session_id)
    return [(row, from_cells(row.cells)) for row in map(to_row, found)]


def _content(talk: Talk, session_id: str, rows: list[tuple[RecordRow, Record]]) -> Iterable[str]:
    """What was acknowledged is there, once; what was said is answered, unless its send was stopped."""
    said = Counter(found["tag"] for _, record in rows if isinstance(record, UserSaid) for found in PLAN.finditer(text_of(record.content)))
    for tag, count in said.items():
        if count > 1 and tag != "m0":
            yield f"{tag} was said {count} times"
    for tag, where in talk.acknowledged.items():
        if where == session_id and not said[tag]:
            yield f"{tag} was acknowledged and is gone"
    yield from _unanswered(rows)
    yield from _out_of_form(rows)
    ends = {row.send_index: record for row, record in rows if isinstance(record, SendEnded)}
    for tag, result in talk.completed.items():
        if talk.acknowledged[tag] == session_id and result.status == "completed":
            if result.send_index not in ends:
                yield f"{tag} was completed in send {result.send_index}, which has no end"
            texts = [record.text for row, record in rows if row.send_index == result.send_index and isinstance(record, ModelReplied)]
            if result.final_text.startswith("{") and result.output != json.loads(result.final_text):
                yield f"{tag} was told the output {result.output!r} of {result.final_text!r}"
            if result.final_text not in texts:
                yield f"{tag} was told {result.final_text!r}; send {result.send_index} said {texts}"


def _out_of_form(rows: list[tuple[RecordRow, Record]]) -> Iterable[str]:
    """Sends that were completed with something else than they asked for."""
    form, answer = False, ""
    for row, record in rows:
        match record:
            case UserSaid(overrides=overrides) if overrides or not answer:
                form = bool(overrides and "output" in overrides)
            case ModelReplied(text=text):
                answer = text
            case SendEnded(status):
                if form and status == "completed" and not answer.startswith('{"tags"'):
                    yield f"send {row.send_index} asked for a form and is completed with {answer!r}"
                form, answer = False, ""
            case _:
                continue


def _unanswered(rows: list[tuple[RecordRow, Record]]) -> Iterable[str]:
    """Words after which no model spoke in their send."""
    waiting: list[str] = []
    for row, record in rows:
        match record:
            case UserSaid():
                waiting.append(f"seq {row.seq}")
            case ModelReplied():
                waiting = []
            case SendEnded(status="completed") if waiting:
                yield f"send {row.send_index} is completed, and the words at {waiting} have no answer"
            case SendEnded() | SendResumed():
                waiting = []
            case _:
                continue
    if waiting:
        yield f"the words at {waiting} have no answer"


def _effects(talk: Talk, rows: list[tuple[RecordRow, Record]]) -> Iterable[str]:
    """What each result says is what happened."""
    replies = [(row, record) for row, record in rows if isinstance(record, ModelReplied)]
    calls = {(row.send_index, call.id): (call.name, json.loads(call.arguments)["n"]) for row, reply in replies for call in reply.calls}
    begun: set[tuple[int, str]] = set()
    for row, record in rows:
        if isinstance(record, ToolStarted):
            begun.add((row.send_index, record.call_id))
        if not isinstance(record, ToolReturned):
            continue
        name, n = calls[row.send_index, record.call_id]
        happened, once = talk.outside.effects[name, n], TOOL_EFFECTS[name] == "once"
        said = f"{name} {n} is told {record.outcome!r} and happened {happened} times"
        if once and happened > 1:
            yield f"{said}: at most once was promised"
        if name == "ask":
            continue
        match record.outcome:
            case "ok" if not happened or name == "fails":
                yield said
            case "failed" if name != "fails":
                yield said
            case "unknown" if not once or (row.send_index, record.call_id) not in begun:
                yield f"{said}: it never began"
            case "aborted" | "skipped" if once and happened:
                yield said
            case _:
                continue


def _keys(talk: Talk) -> Iterable[str]:
    owners: dict[str, tuple[str, str]] = {}
    for call, keys in talk.outside.keys.items():
        if len(keys) != 1:
            yield f"{call} came with the keys {sorted(keys)}"
        for key in keys:
            if owners.setdefault(key, call) != call:
                yield f"{call} and {owners[key]} share the key {key}"


def leases_of_the_living(world: World) -> list[str]:
    """Leases that nobody gave back although their holders live and run nothing any more."""
    held = world.look("SELECT session_id, holder FROM {p}sessions WHERE holder IS NOT NULL")
    dead = {process.name for process in world.processes if process.life.dead}
    return [f"{session_id}: {holder!r} lives, runs nothing and holds the lease" for session_id, holder in held if holder not in dead]
