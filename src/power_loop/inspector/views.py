"""The inspector's answers: one method per page. They say what there is; what of it is shown is the business of `shown`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.messages import readable
from power_loop.contracts.rows import SessionKind
from power_loop.contracts.store import RecordRow
from power_loop.inspector import charts
from power_loop.inspector.glance import Glance
from power_loop.inspector.journals import Journals
from power_loop.inspector.lines import Listed
from power_loop.inspector.reads import Reads
from power_loop.inspector.requests import request_of
from power_loop.inspector.runs import shown_run
from power_loop.inspector.shown import Asked, Given, Passage
from power_loop.inspector.timeline import Json, text_of, timeline
from power_loop.runtime.doctor import doctor
from power_loop.store.sql_store import SessionStore

CALLS_SHOWN = 2_000
DAYS_SHOWN = 90
# The charts of all sessions show the last records of those that were active last.
LATEST_SESSIONS, LATEST_RECORDS = 50, 40
# What a send may be followed by without being under way: its fold.
AFTERWARDS = ("call_charged", "context_folded", "fold_skipped")
# Of a larger family so many members are shown.
TREE_LIMIT = 500
TITLE_CHARS, INBOX_CHARS = 160, 400


class Views:
    """Pages over one store."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._reads = Reads(store.database, store.dialect, store.table_prefix, store.clock, store.ids)
        self._journals = Journals(self._reads)

    async def sessions(self, limit: int = 50, after: str = "", **filters: Any) -> Json:
        """A page of the list: the latest activity first. ``next`` is the cursor of the page behind it.

        A search, and what asks for a kind, looks at the slice of sessions behind the id ``after`` alone: the page is made of
        the answers of all slices. ``further``: the id behind which the next one begins.
        """
        of = await self._reads.slice_after(after) if filters.get("search") or filters.get("kind") else None
        found = await self._reads.sessions(limit=limit + 1, of=of, **filters)
        page = found[:limit]
        heads = {each.session_id: each.head for each in page if each.head}
        last, words = await self._reads.last_records(heads), await self._reads.first_words(list(heads))
        lines = [_line(each, last.get(each.session_id, []), words.get(each.session_id, "")) for each in page]
        more = [page[-1].updated_at, page[-1].session_id] if len(found) > limit else None
        return {"sessions": lines, "next": more, "further": of.through if of is not None else None}

    async def session(self, session_id: str) -> Json:
        """What stands beside the timeline: its row, who is waited for, what hangs on it."""
        found = await self._reads.session(session_id)
        last = (await self._reads.last_records({session_id: found.head}))[session_id]
        words = await self._reads.first_words([session_id])
        return {
            **_line(found, last, words.get(session_id, "")),
            "prompt": Passage((await self._store.get_session(session_id)).system_prompt or ""),
            "waiting": waiting(session_id, await self._reads.page_before(session_id, found.head + 1)),
            "inbox": [_inbox(item) for item in await self._store.inbox(session_id, due=False)],
            "timers": [timer._asdict() for timer in await self._store.list_timers(session_id)],
            "notes": [note._asdict() for note in await self._store.list_notes(session_id)],
            "jobs": [job._asdict() for job in await self._store.list_jobs(session_id)],
            "tree": await self._tree(found),
        }

    async def head(self, session_id: str) -> int:
        """How many records it has. Raises `SessionNotFoundError`."""
        return (await self._reads.session(session_id)).head

    async def doctor(self, session_id: str) -> Json:
        """How it stands, and what is the matter. ``left_out``: so many records of a long history were not looked at."""
        glance = Glance.at(self._store)
        found = await doctor(glance, session_id)
        return {"state": found.state, "findings": [finding._asdict() for finding in found.findings], "left_out": glance.left_out}

    async def timeline(self, session_id: str, *, before: int | None = None, send: int | None = None) -> Json:
        """A page of sends: the latest, those before a seq, or those up to a send. ``next``: where the page before it ends."""
        head = (await self._reads.session(session_id)).head
        end = head if send is None else await self._reads.end_of_send(session_id, send, head)
        rows = await self._reads.page_before(session_id, before if before is not None else end + 1)
        if not rows:
            return {"head": head, "sends": [], "next": None, "last": True}
        return {
            "head": head,
            "sends": await self._marked(session_id, head, rows),
            "next": rows[0].seq if rows[0].seq > 1 else None,
            "last": rows[-1].seq == head,
        }

    async def _marked(self, session_id: str, head: int, rows: Sequence[RecordRow]) -> list[Json]:
        """The sends of ``rows``; of one that is longer than a page it is said where more of it stands."""
        sends, before, after = timeline(session_id, rows), rows[0].seq - 1, rows[-1].seq + 1
        places = [seq for seq in (before, after) if 0 < seq <= head]
        around = await self._reads.sends_at(session_id, places) if places else {}
        if around.get(before) == rows[0].send_index:
            sends[0]["cut"].append("before")
        if around.get(after) == rows[-1].send_index:
            sends[-1]["cut"].append("after")
            sends[-1]["status"] = ""  # how it ended stands further on
        return sends

    async def text(self, session_id: str, seq: int, part: str) -> str | None:
        """What a record says, whole; ``part`` as of `text_of`. None where no record stands there. Raises `ValueError`."""
        row = await self._reads.record(session_id, seq)
        return None if row is None else text_of(row, part)

    async def asked(self, session_id: str, interaction_id: str) -> Json | None:
        """A question as it was asked, word for word; None where it does not wait."""
        while (run := await self.workflow(session_id)) is not None and run["further"] is not None:
            pass
        waits = (await self.session(session_id))["waiting"] if run is None else run["waiting"]
        return next((dict(each.interaction) for each in waits if each.interaction.get("interaction_id") == interaction_id), None)

    async def request(self, session_id: str, seq: int) -> Json | None:
        """The request that the reply at ``seq`` answered."""
        return await request_of(self._reads, session_id, seq)

    async def session_charts(self, session_id: str) -> Json:
        return charts.of_calls(await self._reads.calls(session_id, CALLS_SHOWN))

    async def workflow(self, session_id: str) -> Json | None:
        """The run that this session is; None where it is none.

        ``{further, records}`` alone: only so many of its records are read yet; asked again it reads on.
        """
        row = await self._reads.session(session_id)
        if row.kind != SessionKind.WORKFLOW:
            return None
        plan, through = await self._journals.read_on(session_id, (await self._store.get_session(session_id)).config or {}, row.head)
        if plan is None:
            return {"further": through, "records": row.head}
        return {**shown_run(plan, await self._reads.leaves_driven(session_id) if row.held else {}), "further": None}

    async def charts(self) -> Json:
        """The latest calls of all sessions."""
        return charts.of_calls(await self._reads.latest_calls(LATEST_SESSIONS, LATEST_RECORDS))

    async def days(self, after: str = "") -> Json:
        """Sums by day over the slice of sessions behind the id ``after``. ``further``: the id behind which the next one begins."""
        of = await self._reads.slice_after(after)
        return {"days": charts.of_days(await self._reads.days(DAYS_SHOWN, of)), "further": of.through}

    async def _tree(self, found: Listed) -> list[Json]:
        """The session's family, parents before children: the topmost parent that is there, and those under it."""
        top = found
        while top.parent_session_id is not None:
            try:
                top = await self._reads.session(top.parent_session_id)
            except SessionNotFoundError:
                break
        return await self._reads.family(top.session_id, TREE_LIMIT)


def waiting(session_id: str, rows: Sequence[RecordRow]) -> list[Asked]:
    """The questions and approvals of the last send that somebody is asked for."""
    last = timeline(session_id, rows)[-1:]
    calls = [call for send in last for item in send["items"] for call in item.get("calls", ())]
    return [call["asked"] for call in calls if call["outcome"] == "parked"]


def _line(found: Listed, last: Sequence[tuple[str, Json]], words: str) -> Json:
    return {**found._asdict(), "metadata": Given(found.metadata), "outcome": _outcome(found, last), "title": Passage(words, TITLE_CHARS)}


def _outcome(found: Listed, last: Sequence[tuple[str, Json]]) -> str:
    """``running``, how the last send ended or rests, ``interrupted`` where it did neither, ``new`` before the first."""
    if found.held:
        return "running"
    if not last or not found.send_index:
        return "new"
    kind, body = next((each for each in reversed(last) if each[0] not in AFTERWARDS), last[-1])
    return body.get("status", "") if kind in ("send_ended", "send_rested") else "interrupted"


def _inbox(item: Any) -> Json:
    told = item._asdict()
    told["record"] = {"kind": type(item.record).__name__, "text": Passage(readable(getattr(item.record, "content", "")), INBOX_CHARS)}
    return told
