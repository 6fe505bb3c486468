"""Sessions as a host sees them: made, looked up, archived, counted, deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from power_loop.contracts.children import GIVEN_UP
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import SessionLeaseLost, SessionNotFoundError
from power_loop.contracts.rows import SessionKind, SessionRow, SessionStatsRow, SessionStatus, SubagentLifecycle
from power_loop.contracts.store import Conflict, Forsaken, Row, Statement
from power_loop.contracts.text import check_is_text, check_text, metadata_in
from power_loop.store.ledger import Ledgers

_SESSION_ID = re.compile(r"[A-Za-z0-9._:/-]{1,191}", re.ASCII)

CREATE = "INSERT INTO {p}sessions (session_id, epoch, agent, last_batch, created_at, updated_at) VALUES (?, {t}, ?, ?, ?, ?)"
EPOCH = "SELECT epoch FROM {p}sessions WHERE session_id = ?"
CREATED_BY = "SELECT last_batch FROM {p}sessions WHERE session_id = ?"
DESCRIBE = """INSERT INTO {p}session_info (session_id, system_prompt, model, config, metadata, kind, lifecycle, parent_session_id,
 spawn_tool_call_id, spawn_depth) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INFO = """SELECT s.session_id, s.created_at, s.updated_at, i.system_prompt, i.model, i.config, s.status, i.kind, i.parent_session_id,
 i.spawn_tool_call_id, i.spawn_depth, i.lifecycle, i.metadata, s.agent
 FROM {p}sessions s JOIN {p}session_info i ON i.session_id = s.session_id"""
GROUND = """SELECT i.system_prompt, i.parent_session_id, (SELECT r.body FROM {p}records r WHERE r.session_id = i.session_id
 AND r.seq = 1 AND r.kind = 'user_said') FROM {p}session_info i WHERE i.session_id = ?"""
# Of a sub-agent: whose it is, and what says that nobody waits for it any more, which is the answer of its call, or the end of its workflow.
WAITED_FOR = """SELECT i.parent_session_id, i.kind, s.send_index, p.kind, CASE WHEN p.kind = 'workflow'
 THEN (SELECT r.kind FROM {p}records r WHERE r.session_id = p.session_id ORDER BY r.seq DESC LIMIT 1)
 ELSE (SELECT r.kind FROM {p}records r WHERE r.session_id = p.session_id AND r.call_id = i.spawn_tool_call_id
 AND r.kind = 'tool_returned' LIMIT 1) END
 FROM {p}session_info i JOIN {p}sessions s ON s.session_id = i.session_id
 LEFT JOIN {p}session_info p ON p.session_id = i.parent_session_id WHERE i.session_id = ?"""
FORSAKEN: Mapping[str | None, Forsaken] = {"tool_returned": "answered", "send_ended": "stopped"}
# What a workflow said last of a leaf.
SAID_OF = "SELECT body FROM {p}records WHERE session_id = ? AND kind = 'step_changed' AND body LIKE ? ORDER BY seq DESC LIMIT 1"
# Of the order in which sessions are listed: those that come after one.
OLDER = "(s.created_at < ? OR (s.created_at = ? AND s.session_id > ?))"
# Sessions that are looked at together where only some of them are wanted.
PAGE = 500

METADATA = "SELECT metadata FROM {p}session_info WHERE session_id = ?"
TOUCH = "UPDATE {p}sessions SET wake_no = wake_no + 1, updated_at = ? WHERE session_id = ?"
STATUS = "UPDATE {p}sessions SET status = ?, wake_no = wake_no + 1, updated_at = ? WHERE session_id = ?"
SET_PROMPT = "UPDATE {p}session_info SET system_prompt = ? WHERE session_id = ?"
SET_METADATA = "UPDATE {p}session_info SET metadata = ? WHERE session_id = ? AND COALESCE(metadata, '') = ?"
# A workflow stays one; who was a child of the deleted session is a root now, whatever it was spawned for.
FREE_CHILDREN = """UPDATE {p}session_info SET parent_session_id = NULL, spawn_tool_call_id = NULL, lifecycle = NULL,
 kind = CASE WHEN kind = 'subagent' THEN 'root' ELSE kind END WHERE parent_session_id = ?"""
RAISE = "UPDATE {p}session_info SET spawn_depth = ? WHERE session_id = ?"
# A parent that is deleted at the same time is noticed: the child would hang under nothing.
STAY = "UPDATE {p}sessions SET updated_at = ? WHERE session_id = ?"
STAY_UNDER = STAY + " AND epoch = ?"
STATS = """SELECT session_id, sends, rounds, llm_calls, tool_calls, prompt_tokens, completion_tokens, prompt_tokens + completion_tokens,
 first_send_at, last_send_at, updated_at, cost FROM {p}sessions WHERE sends > 0"""

# Every table that holds rows of a session under the column ``session_id``; the thin row first, as in every batch.
OF_A_SESSION = (
    "sessions", "session_info", "records", "inbox", "waiters", "send_keys", "timers",
    "ledgers", "charges", "reservations", "late_results", "jobs", "blobs",
)  # fmt: skip


def _may_be_an_id(value: object) -> bool:
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None


def check_session_id(session_id: str) -> None:
    """ValueError for an id that no session may have; TypeError for what is no text."""
    check_is_text("session_id", session_id)
    if not _may_be_an_id(session_id):
        raise ValueError(f"session id {session_id!r}: use 1 to 191 characters of A-Z, a-z, 0-9 and . _ : / -")


def could_exist(session_id: str) -> None:
    """For who writes without a look: SessionNotFoundError for an id that no session may have, TypeError for what is no text."""
    check_is_text("session_id", session_id)
    if not _may_be_an_id(session_id):
        raise SessionNotFoundError(session_id)


class Sessions(Ledgers):
    """The sessions themselves; what they hold is `log`'s business."""

    max_spawn_depth: int = 3

    async def create_session(
        self,
        *,
        system_prompt: str | None = None,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        parent_session_id: str | None = None,
        spawn_tool_call_id: str | None = None,
        kind: str = SessionKind.ROOT,
        lifecycle: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        parent_epoch: int | None = None,
    ) -> str:
        """A new session; its id. Raises `ValueError` for a bad or taken id, an unknown parent, or one that is too deep.

        ``parent_epoch``: under which the caller drives the parent. Raises `SessionLeaseLost` when somebody took that over meanwhile.
        """
        session_id = session_id if session_id is not None else f"sess_{self._ids.token(12)}"
        check_session_id(session_id)
        check_text("system_prompt", system_prompt)
        kind, lifecycle = SessionKind(kind), SubagentLifecycle(lifecycle) if lifecycle is not None else None
        depth = await self._depth_below(parent_session_id)
        now = self._clock.now_ms()
        info = (
            session_id, system_prompt, model, _json(config), _json(metadata_in(metadata)), str(kind), lifecycle,
            parent_session_id, spawn_tool_call_id, depth,
        )  # fmt: skip
        # The epoch begins at the creation time, so an id that is deleted and used again never meets an old epoch.
        mark = str(self._ids.bits(62))
        batch = [Statement(self._sql(CREATE), (session_id, self._at(now), agent, mark, now, now)), Statement(self._sql(DESCRIBE), info)]
        if parent_session_id is not None:
            batch.insert(0, self._stays(now, parent_session_id, parent_epoch))
        try:
            ours = await self._write_once(batch) or await self._database.read(self._sql(CREATED_BY), (session_id,)) == [(mark,)]
        except Conflict:
            ours = False
        if not ours:
            await self._depth_below(parent_session_id)
            if parent_session_id is not None and parent_epoch is not None:
                await self._refuse_another_driver(parent_session_id, parent_epoch)
            raise ValueError(f"session {session_id!r} exists already; choose another id, or send to it")
        return session_id

    def _stays(self, now: int, session_id: str, epoch: int | None) -> Statement:
        """That the session is there, and driven under ``epoch`` if that is given."""
        if epoch is None:
            return Statement(self._sql(STAY), (now, session_id), 1)
        return Statement(self._sql(STAY_UNDER), (now, session_id, epoch), 1)

    async def _refuse_another_driver(self, session_id: str, epoch: int) -> None:
        if await self._database.read(self._sql(EPOCH), (session_id,)) != [(epoch,)]:
            raise SessionLeaseLost(session_id, epoch=epoch)

    async def get_session(self, session_id: str) -> SessionRow:
        """Raises `SessionNotFoundError`."""
        check_is_text("session_id", session_id)
        rows = await self._database.read(self._sql(INFO) + " WHERE s.session_id = ?", (session_id,))
        if not rows:
            raise SessionNotFoundError(session_id)
        return session_row(rows[0])

    async def list_sessions(
        self,
        *,
        status: str | None = None,
        kind: str | None = None,
        agent: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[SessionRow]:
        """Sessions, the newest first; ``before``: only those created before this time (ms); ``metadata``: equal top-level strings.

        Raises `ValueError` for a ``status`` that no session has.
        """
        wanted: list[tuple[str, Any]] = []
        if status is not None:
            if status not in tuple(SessionStatus):
                raise ValueError(f"status is {status!r}; it must be {' or '.join(repr(str(each)) for each in SessionStatus)}")
            wanted.append(("s.status = ?", int(status == SessionStatus.ARCHIVED)))
        if before is not None:
            wanted.append(("s.created_at < ?", before))
        wanted += [(f"{column} = ?", value) for column, value in (("i.kind", kind), ("s.agent", agent)) if value is not None]
        if metadata is None:
            return await self._page(wanted, limit)
        found: list[SessionRow] = []
        last: SessionRow | None = None
        while len(found) < limit:  # page by page: no engine's JSON is asked, and no more is held than is wanted
            page = await self._page(wanted, PAGE, after=last)
            found += [row for row in page if all(row.metadata.get(key) == value for key, value in metadata.items())]
            if len(page) < PAGE:
                break
            last = page[-1]
        return found[:limit]

    async def _page(self, wanted: Sequence[tuple[str, Any]], limit: int, after: SessionRow | None = None) -> list[SessionRow]:
        """The newest ``limit`` sessions of those that are ``wanted`` (condition, value), after this one."""
        conditions, values = [condition for condition, _ in wanted], [value for _, value in wanted]
        if after is not None:
            conditions.append(OLDER)
            values += [after.created_at, after.created_at, after.session_id]
        where = " WHERE " + " AND ".join(conditions) if conditions else ""
        sql = self._sql(INFO) + where + f" ORDER BY s.created_at DESC, s.session_id LIMIT {int(limit)}"
        return [session_row(row) for row in await self._database.read(sql, values)]

    async def list_children(self, session_id: str) -> list[SessionRow]:
        rows = await self._database.read(
            self._sql(INFO) + " WHERE i.parent_session_id = ? ORDER BY s.created_at, s.session_id", (session_id,)
        )
        return [session_row(row) for row in rows]

    async def archive_session(self, session_id: str) -> None:
        """Close it for sends; it stays readable."""
        await self._set_status(session_id, 1)

    async def unarchive_session(self, session_id: str) -> None:
        await self._set_status(session_id, 0)

    async def session_ground(self, session_id: str) -> tuple[str | None, str | None, Mapping[str, Any] | None]:
        """(the system prompt that was given to this session explicitly, its parent session, what a sub-agent's first send was given)."""
        rows = await self._database.read(self._sql(GROUND), (session_id,))
        if not rows:
            return None, None, None
        prompt, parent, body = rows[0]
        given: dict[str, Any] = json.loads(body).get("overrides") or {} if body else {}
        return prompt, parent, given if "own" in given else None

    async def forsaken(self, session_id: str) -> Forsaken | None:
        """Why nobody would hear what becomes of this sub-agent's send, if so: see `Forsaken`."""
        rows = await self._database.read(self._sql(WAITED_FOR), (session_id,))
        parent, kind, sends, above, said = rows[0] if rows else (None, None, 0, None, None)
        if parent is None:
            return None
        # Later sends of a sub-agent that was kept are its host's own.
        found = FORSAKEN.get(said) if kind == SessionKind.SUBAGENT and sends <= 1 else None
        if found is None and above == SessionKind.WORKFLOW and await self._is_given_up(parent, session_id):
            return "stopped"
        return found or await self.forsaken(parent)

    async def _is_given_up(self, run: str, leaf: str) -> bool:
        """The run goes on without the leaf: its step ran out of time, or was halted."""
        rows = await self._database.read(self._sql(SAID_OF), (run, f'%"session_id":"{leaf}"%'))
        return bool(rows) and json.loads(rows[0][0])["change"].get("status") == GIVEN_UP

    async def update_session_prompt(self, session_id: str, system_prompt: str | None) -> None:
        """Set the session's own prompt; None gives it the configuration's again. Holds from the next send on."""
        check_text("system_prompt", system_prompt)
        touch = Statement(self._sql(TOUCH), (self._clock.now_ms(), session_id), 1)
        await self._on_session(session_id, [touch, Statement(self._sql(SET_PROMPT), (system_prompt, session_id), 1)])

    async def merge_session_metadata(self, session_id: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Add ``patch`` to the metadata, top level; a value None removes its key. The metadata afterwards."""
        while True:
            rows = await self._database.read(self._sql(METADATA), (session_id,))
            if not rows:
                raise SessionNotFoundError(session_id)
            old = rows[0][0]
            merged = {key: value for key, value in {**json.loads(old or "{}"), **patch}.items() if value is not None}
            try:
                if await self._write_once([Statement(self._sql(SET_METADATA), (_json(merged), session_id, old or ""), 1)]):
                    return merged
            except Conflict:
                continue

    async def get_session_stats(self, session_id: str) -> SessionStatsRow | None:
        """None before the first finished send. Raises `SessionNotFoundError`."""
        check_is_text("session_id", session_id)
        rows = await self._database.read(self._sql(STATS) + " AND session_id = ?", (session_id,))
        if rows:
            return SessionStatsRow(*rows[0])
        await self.get_session(session_id)
        return None

    async def list_session_stats(self) -> list[SessionStatsRow]:
        """Most recently active first."""
        rows = await self._database.read(self._sql(STATS) + " ORDER BY last_send_at DESC, updated_at DESC, session_id")
        return [SessionStatsRow(*row) for row in rows]

    async def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Delete the session, and with ``cascade`` what hangs under it; the number of sessions that are gone.

        Without it children become roots. Detached children always do. Raises `SessionNotFoundError`.
        """
        return len(await self.close_session_tree(session_id, cascade=cascade))

    async def close_session_tree(self, session_id: str, *, cascade: bool = True) -> list[str]:
        """The same; the ids of what is gone."""
        parent = (await self.get_session(session_id)).parent_session_id
        gone = await self.family(session_id) if cascade else [session_id]
        batch = deletion(self._sql, gone) + (await self.leaving(gone) if parent is not None else [])
        batch += [Statement(self._sql(RAISE), (depth, one)) for one, depth in (await self._freed(gone)).items()]
        await self._write_once(batch)
        return gone

    async def family(self, session_id: str) -> list[str]:
        """The session and all that go with it."""
        found = [session_id]
        for parent in found:
            found += [row.session_id for row in await self.list_children(parent) if row.lifecycle != SubagentLifecycle.DETACHED]
        return found

    async def _freed(self, gone: Sequence[str]) -> dict[str, int]:
        """How deep the sessions stand that outlive their parents among ``gone``, and what hangs under them."""
        depths: dict[str, int] = {}
        below = [(row.session_id, 0) for one in gone for row in await self.list_children(one) if row.session_id not in gone]
        for session_id, depth in below:
            depths[session_id] = depth
            below += [(row.session_id, depth + 1) for row in await self.list_children(session_id)]
        return depths

    async def _depth_below(self, parent_session_id: str | None) -> int:
        if parent_session_id is None:
            return 0
        try:
            depth = (await self.get_session(parent_session_id)).spawn_depth + 1
        except SessionNotFoundError:
            raise ValueError(f"the parent session {parent_session_id!r} does not exist") from None
        if depth > self.max_spawn_depth:
            raise ValueError(f"a child of {parent_session_id!r} would stand {depth} levels deep; max_spawn_depth is {self.max_spawn_depth}")
        return depth

    async def _set_status(self, session_id: str, status: int) -> None:
        await self._on_session(session_id, [Statement(self._sql(STATUS), (status, self._clock.now_ms(), session_id), 1)])

    async def _on_session(self, session_id: str, batch: list[Statement]) -> None:
        could_exist(session_id)
        try:
            await self._write_once(batch)
        except Conflict:
            raise SessionNotFoundError(session_id) from None


def deletion(sql: Callable[[str], str], gone: Sequence[str]) -> list[Statement]:
    """What deletes the sessions ``gone`` with all that is theirs; their other children become roots."""
    batch = [Statement(sql(f"DELETE FROM {{p}}{table} WHERE session_id = ?"), (one,)) for table in OF_A_SESSION for one in sorted(gone)]
    batch += [Statement(sql("DELETE FROM {p}state WHERE owner = ?"), (one,)) for one in gone]
    return batch + [Statement(sql(FREE_CHILDREN), (one,)) for one in gone]


def session_row(row: Row) -> SessionRow:
    session_id, created, updated, prompt, model, config, status, kind, parent, call, depth, lifecycle, metadata, _ = row
    return SessionRow(
        session_id, created, updated, prompt, model, json.loads(config) if config else None,
        SessionStatus.ARCHIVED if status else SessionStatus.ACTIVE, kind or SessionKind.ROOT, parent, call, depth, lifecycle,
        json.loads(metadata) if metadata else {},
    )  # fmt: skip


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else dumps(dict(value))
