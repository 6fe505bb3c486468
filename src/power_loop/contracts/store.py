"""The store ports: a database of two verbs, and the session log that runtime drives.

Every change is read → compute → compare-and-set batch; there is no interactive transaction. So each
write is one crash point, one unit of retry, one place to inject a fault.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from power_loop.contracts.jobs import Job
from power_loop.contracts.records import Record

if TYPE_CHECKING:
    from power_loop.contracts.late import LateResult
    from power_loop.contracts.ledger import Entries, Ledger, Reservation
    from power_loop.contracts.usage import CallUsage

# --- the database port --------------------------------------------------------------------


class Statement(NamedTuple):
    """One SQL statement of a batch. Placeholders are ``?``; the engine translates them."""

    sql: str
    params: Sequence[Any] = ()
    touches: int | None = None
    """Rows it must touch; any other number is a `Conflict`, and nothing of its batch is written."""


Batch = Sequence[Statement]
Row = tuple[Any, ...]


class Conflict(Exception):
    """A guard of the batch did not hold, or a key exists already; nothing of the batch was written."""


class CommitUnknown(Exception):
    """COMMIT raised: the batch is there or it is not. The same batch may be sent again."""


class Database(Protocol):
    """A relational database, seen through two verbs. Usable from any event loop and thread.

    Cancelling a task that awaits either verb never harms the connection. A write runs to its end, and the task learns
    of the outcome before it is cancelled; a read may be left at once, where its answer can take long.
    """

    def read(self, sql: str, params: Sequence[Any] = ()) -> Awaitable[list[Row]]:
        """All rows of one SELECT, from the newest committed state. Raises `StoreUnavailable`.

        Text that has no UTF-8 is in no database: it is looked for like NULL, and found nowhere.
        """
        ...

    def write(self, batch: Batch) -> Awaitable[None]:
        """Write all of ``batch`` or nothing.

        Raises `Conflict` (nothing is written), `StoreUnavailable` (nothing is written), or
        `CommitUnknown` (nobody knows).
        """
        ...

    async def close(self) -> None:
        """Finish what was submitted, then give everything back. May be called more than once."""
        ...


class SchemaPolicy(StrEnum):
    """What opening does about the schema."""

    AUTO_CREATE = "auto_create"
    VERIFY = "verify"

    @classmethod
    def _missing_(cls, value: object) -> SchemaPolicy:
        if isinstance(value, str) and value in cls.__members__:
            return cls[value]
        raise ValueError(f"schema={value!r}; it may be {' or '.join(repr(each.value) for each in cls)}")


# No database counts further.
MOST = 2**63 - 1

# Later than any lease: while we hold one its expiry does not matter, the epoch decides.
FAR = 1 << 62

# A session whose holders died this often in a row without writing anything is left alone by workers; by hand it can be driven.
MAX_TAKEOVERS = 5

# --- sessions and their records --------------------------------------------------------------


class Head(NamedTuple):
    """A session's thin row as last seen: where its log ends and who may write to it."""

    session_id: str
    head: int = 0
    """seq of the last record; 0 when there is none."""
    epoch: int = 0
    holder: str | None = None
    lease_until: int = 0
    """ms; 0 when nobody holds the session."""
    wake_no: int = 0
    """Moves with every post, so that a guard on it notices what waits to be heard."""
    send_index: int = 0
    send_seq: int = 0
    """seq of the record that began the last send."""
    fold_seq: int = 0
    """seq of the newest `ContextFolded`; 0 when there is none."""
    fold_through: int = 0
    archived: bool = False
    takeovers: int = 0
    first_ticket: int | None = None
    """The first in line that still gives a sign of life."""
    waiting: bool = False
    """Something waits in the inbox."""

    def held_at(self, now: int) -> bool:
        """Somebody's lease runs at ``now`` (ms)."""
        return self.holder is not None and self.lease_until > now

    @property
    def poisoned(self) -> bool:
        """It was taken over again and again without progress; the next write by whoever drives it heals it."""
        return self.takeovers >= MAX_TAKEOVERS


class Cells(NamedTuple):
    """What of a record stands in columns of its own; all that has no column is JSON in ``body``."""

    kind: str
    version: int
    role: str | None = None
    name: str | None = None
    content: str | None = None
    escaped: int | None = None
    """None: plain text; 1: JSON string (it holds NUL or a lone surrogate); 2: JSON list of blocks."""
    tool_calls: str | None = None
    call_id: str | None = None
    call_index: int | None = None
    body: str | None = None


class RecordRow(NamedTuple):
    """One row of the log."""

    seq: int
    send_index: int
    round_index: int | None
    cells: Cells
    epoch: int = 0
    take_id: int | None = None
    created_at: int = 0


class Tally(NamedTuple):
    """What a batch adds to the session's counters."""

    sends: int = 0
    rounds: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


NO_TALLY = Tally()


class InboxItem(NamedTuple):
    """Something that waits to be heard: a record to be, with the key that makes it unique."""

    item_id: int
    key: str
    mode: str
    """``queue``: heard when the model is next asked; ``steer``: interrupts the call in hand; ``aside``: wakes nobody."""
    record: Record
    created_at: int = 0
    not_before: int | None = None
    """ms; it is not heard earlier."""


class TimerMove(NamedTuple):
    """What becomes of a timer whose note is heard now, but does not enter."""

    timer_id: int
    firing: int
    """Nothing is moved once it has fired again."""
    status: str
    due_at: int | None = None
    """ms; None: as it is."""


class Post(NamedTuple):
    """A word that a tool left for a session: it stands in that session's inbox with the batch that stores what came of the call."""

    session_id: str
    key: str
    text: str


class Append(NamedTuple):
    """One batch of one session: what it expects to find (``seen``), and what it leaves (``next``).

    It is refused with `Conflict` unless the row still has ``seen``'s epoch, head and wake_no, and its lease
    ends before ``bound``. A take writes an epoch one above the one seen; a release leaves ``next.holder`` empty.
    """

    seen: Head
    next: Head
    rows: Sequence[RecordRow] = ()
    tally: Tally = NO_TALLY
    heard: Sequence[int] = ()
    ticket: int | None = None
    """Our place in the line, given up with this batch."""
    take_id: int | None = None
    """Random, at a take: only then can two writers aim at the same (seq, epoch)."""
    bound: int = FAR
    """A take is refused unless the lease in the row ends before this (ms)."""
    send_key: str | None = None
    """Unique in the session; kept beside the send that this batch begins."""
    now: int = 0
    seen_jobs: Sequence[Job] = ()
    """Jobs whose end the reply in this batch was told of."""
    entries: Entries | None = None
    """What it changes in ledgers; None without limits."""
    closes: Sequence[str] = ()
    """Sessions that are deleted with this batch: children that have done what they were for."""
    timers: Sequence[TimerMove] = ()
    """Timers whose notes are among what was heard."""
    posts: Sequence[Post] = ()
    """What tools left for sessions; what came of their calls is among the rows."""


Forsaken = Literal["answered", "stopped"]
"""Of a sub-agent: its call, or one above it, was answered without it; or it is a leaf that its workflow gave up, or of one that is over,
and may be gone on with."""


class SessionLog(Protocol):
    """What runtime asks of a store: read a session, append to it under its lease, post to its inbox."""

    async def look(self, session_id: str) -> Head:
        """The row as it is now. Raises `SessionNotFoundError`."""
        ...

    async def rows(
        self, session_id: str, *, after: int, whole_from: int = 0, projected: str | None = None, until: int = FAR
    ) -> list[RecordRow]:
        """The rows with ``after < seq <= until``, in order; of those before ``whole_from`` only what a window is made of.

        ``projected``: of those not the messages, but how finished sends are shown in that kind.
        """
        ...

    async def append(self, batch: Append) -> None:
        """Write it. A COMMIT that raised is resolved first, so that an error means "not written".

        Raises `Conflict`, `StoreUnavailable`.
        """
        ...

    async def send_of_key(self, session_id: str, key: str) -> int | None:
        """The index of the send that was begun under ``key``, or heard what was posted under it.

        0 while that waits to be heard; None when there is no such key.
        """
        ...

    async def keep_blob(self, session_id: str, data: bytes) -> str:
        """Keep ``data`` beside the session's records; its digest. The same data is kept once. Raises `StoreUnavailable`."""
        ...

    async def keep_request(self, session_id: str, digest: str, data: bytes) -> None:
        """Keep a whole request beside the session's records, by its digest. The same request is kept once. Raises `StoreUnavailable`."""
        ...

    async def keep_late_result(self, session_id: str, late: LateResult, *, epoch: int) -> None:
        """Keep what a handler gave too late beside the records, whoever holds the session by now. Raises `StoreUnavailable`."""
        ...

    async def late_results(self, session_id: str) -> list[LateResult]:
        """What came too late, oldest first."""
        ...

    async def renew(self, leases: Sequence[tuple[str, int]], until: int) -> None:
        """Extend the leases (session id, epoch) that are still ours to ``until`` (ms)."""
        ...

    async def post(
        self, session_id: str, record: Record, *, key: str, mode: str = "queue", running: Head | None = None,
        not_before: int | None = None, keyed: bool = False, unmoved: Head | None = None, last: tuple[int, int] | None = None,
    ) -> bool:  # fmt: skip
        """Leave ``record`` in the inbox; False when ``key`` was taken before.

        ``running``: only if that holder still holds the session; else `Conflict`. ``unmoved``: only if nothing was
        written or posted since then. ``last``: only while the row of that (seq, epoch) is there. ``not_before``: ms; it
        is not heard earlier. ``keyed``: a send under the same key counts too. Raises `SessionNotFoundError`.
        """
        ...

    async def inbox(self, session_id: str) -> list[InboxItem]:
        """What waits and may be heard by now, oldest first."""
        ...

    async def wakes(self, session_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(epoch, wake_no) of each of these sessions that is there."""
        ...

    async def queue_up(self, session_id: str, holder: str) -> int:
        """Stand in line for the lease; the ticket. The holder notices and lets the line go first."""
        ...

    async def still_waiting(self, ticket: int) -> bool:
        """A sign of life from the line; without one for a few seconds a ticket counts no more. False when it is gone."""
        ...

    async def holder_of_ticket(self, ticket: int) -> str | None:
        """Who stands in line with it; None when nobody does any more."""
        ...

    async def leave_line(self, ticket: int) -> None: ...

    async def forsaken(self, session_id: str) -> Forsaken | None:
        """Why nobody would hear what becomes of this sub-agent's send, if so."""
        ...

    async def session_ground(self, session_id: str) -> tuple[str | None, str | None, Mapping[str, Any] | None]:
        """(the system prompt that was given to this session explicitly, its parent session, what a sub-agent's first send was given)."""
        ...

    # --- ledgers; nobody asks for them but where there are limits, or a parent ---------------------

    async def sends_above(self, session_id: str) -> list[tuple[str, int]]:
        """(session, send) of every ancestor whose send is under way, the topmost first."""
        ...

    async def ledgers(self, ledger_ids: Sequence[str], *, asking: str = "") -> list[Ledger]:
        """Those of ``ledger_ids`` that exist, in that order, as one sight. What the session ``asking`` reserved is left out."""
        ...

    async def reservations(self, session_id: str) -> list[Reservation]:
        """What the session has reserved, or left reserved when its holder died."""
        ...

    async def charged_below(self, ledger_id: str) -> CallUsage:
        """What other sessions than its own charged to the ledger."""
        ...
