"""Messages that a host brings along: one at a time, under the fence, and only where they leave the history sound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.attachments import kept
from power_loop.contracts.codec import dumps, from_cells
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError
from power_loop.contracts.messages import Content, ToolCall, is_content, text_of
from power_loop.contracts.records import ModelReplied, Record, SendEnded, SendResumed, ToolReturned, UserSaid
from power_loop.contracts.store import Append, Conflict
from power_loop.contracts.text import check_text
from power_loop.kernel.history import Standing, alone
from power_loop.kernel.outside import says_something
from power_loop.kernel.state import replay
from power_loop.store.log import RecordLog

ANSWERED = "SELECT call_id FROM {p}records WHERE session_id = ? AND kind = 'tool_returned' AND call_id IN (:ids) ORDER BY seq LIMIT 1"


class Outside(RecordLog):
    """`append_message`, and what it stands on."""

    async def append_message(
        self,
        session_id: str,
        *,
        role: str,
        content: Content | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        round_index: int | None = None,
        meta: Mapping[str, Any] | None = None,
        send_index: int | None = None,
    ) -> int:
        """Add one message of a history from elsewhere; its seq. A user's word begins a send, unless ``send_index`` is the last one's.

        Raises `SessionBusyError` while a send runs, `ValueError` or `TypeError` where the message would break the history,
        `SessionNotFoundError`, `SessionArchivedError`.
        """
        check_text("the name of a message", name)
        calls = tuple(_call(each) for each in tool_calls or ())
        if not is_content(content or ""):
            raise TypeError(f"the content of a message is text or a list of content blocks, not {content!r:.120}")
        given = _message(role, await kept(content or ""), calls, tool_call_id, name, meta)
        if calls:
            await self._refuse_known(session_id, calls)
        while True:
            standing = await self.state_of(session_id)
            head = standing.head
            if head.archived:
                raise SessionArchivedError(session_id)
            if head.held_at(now := self._clock.now_ms()):
                raise SessionBusyError(session_id, holder=head.holder, expires_at=head.lease_until)
            records = _in_its_place(given, standing, goes_on=send_index is not None and send_index == head.send_index)
            # The lease in the row has ended; a renewal that comes late must not let it live again unnoticed.
            batch = alone(standing, records, now=now, take_id=self._ids.bits(62), bound=now + 1)
            seq = head.head + records.index(given) + 1
            try:
                await self.append(_with_extras(batch, seq, round_index, meta))
            except Conflict:
                continue
            return seq

    async def _refuse_known(self, session_id: str, calls: Sequence[ToolCall]) -> None:
        """Providers take an id once. Whatever was called before has a result by now, or nothing could be appended."""
        marks = ", ".join("?" * len(calls))
        found = await self._database.read(self._sql(ANSWERED).replace(":ids", marks), (session_id, *(call.id for call in calls)))
        if found:
            raise ValueError(f"the call id {found[0][0]!r} was used before in this session; give the call another one, and its result too")

    async def state_of(self, session_id: str) -> Standing:
        """The session's row, and what its last send amounts to. Raises `SessionNotFoundError`."""
        head = await self.look(session_id)
        rows = await self.rows(session_id, after=head.send_seq - 1, whole_from=head.send_seq) if head.head else []
        return Standing(head, replay(from_cells(row.cells) for row in rows if head.send_seq <= row.seq <= head.head))


def _message(
    role: str, content: Content, calls: tuple[ToolCall, ...], call_id: str | None, name: str | None, meta: Mapping[str, Any] | None
) -> Record:
    if calls and role != "assistant":
        raise ValueError(f"tool_calls stand in a message of the role 'assistant', not {role!r}")
    match role:
        case "user":
            if not says_something(content):
                raise ValueError("a user message needs content: no provider takes an empty one")
            return UserSaid(content, name, metadata=meta)
        case "assistant":
            if not calls and not text_of(content).strip():
                raise ValueError("an assistant message needs text or tool calls: no provider takes an empty one")
            if len({call.id for call in calls}) < len(calls):
                raise ValueError("two of the tool calls share an id")
            return ModelReplied(text_of(content), calls)
        case "tool" if call_id is not None:
            return ToolReturned(call_id, content, name=name, data=meta, ran=False)
        case "tool":
            raise ValueError("a tool message needs the tool_call_id that it answers")
        case _:
            raise ValueError(f"role {role!r} is none of 'user', 'assistant', 'tool'; the system prompt is set with update_session_prompt()")


def _call(given: Any) -> ToolCall:
    if not isinstance(given, Mapping):
        raise TypeError(f"a tool call is a dict with an id and a function, not {given!r:.120}")
    data = cast("Mapping[str, Any]", given)
    function: Any = data.get("function", data)
    said = cast("Mapping[str, Any]", function if isinstance(function, Mapping) else {})
    call_id, name, arguments = data.get("id"), said.get("name"), said.get("arguments", "{}")
    if not isinstance(call_id, str) or not isinstance(name, str):
        raise ValueError(f"a tool call needs an id and a function with a name, found {dict(data)!r:.120}")
    return ToolCall(call_id, name, arguments if isinstance(arguments, str) else dumps(arguments))


def _in_its_place(given: Record, standing: Standing, *, goes_on: bool) -> list[Record]:
    """``given`` with what must stand before and after it. Raises `ValueError` where it cannot stand at all."""
    state = standing.state
    waiting = ", ".join(call.id for call in state.open_calls)
    match given:
        case ToolReturned(call_id=call_id) if call_id not in {call.id for call in state.open_calls}:
            raise ValueError(f"no call {call_id!r} waits for a result here; these do: {waiting or 'none'}")
        case UserSaid() | ModelReplied() if state.open_calls:
            raise ValueError(f"the calls {waiting} have no result yet: append those first, or abort_pending()")
        case UserSaid():
            if state.idle:
                return [SendResumed(), given] if goes_on else [given]
            return [given] if goes_on else [SendEnded("completed" if state.answered else "interrupted"), given]
        case ModelReplied(calls=calls):
            if not standing.head.send_index:
                raise ValueError("a conversation begins with what a user says: append that first")
            return [*([SendResumed()] if state.idle else []), given, *([] if calls else [SendEnded("completed")])]
        case _:
            return [given]


def _with_extras(batch: Append, seq: int, round_index: int | None, meta: Mapping[str, Any] | None) -> Append:
    """The caller's round, and for a reply its ``meta``, which no record of ours has a place for."""
    if round_index is None and meta is None:
        return batch
    rows = list(batch.rows)
    at = next(at for at, row in enumerate(rows) if row.seq == seq)
    cells = rows[at].cells
    if meta is not None and cells.kind == "model_replied":
        cells = cells._replace(body=dumps({**json.loads(cells.body or "{}"), "meta": dict(meta)}))
    rows[at] = rows[at]._replace(cells=cells, round_index=round_index if round_index is not None else rows[at].round_index)
    return batch._replace(rows=rows)
