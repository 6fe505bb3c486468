"""The port of those who only watch a session: read what was added, and learn cheaply that something was.

Whoever watches never needs more than reads. What a database can say beyond them are hints: nothing is missed
without them, it is only noticed later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from power_loop.contracts.clock import Clock
from power_loop.contracts.store import RecordRow


class Watched(NamedTuple):
    """How far a watched session is."""

    session_id: str
    head: int
    """seq of its last record."""
    created_at: int
    """ms; another time under the same id is another session."""
    holder: str | None = None
    """Who drives it."""
    text: int = 0
    """Differs whenever the text in hand (`PassingText`) does; 0 when there is none."""


class PassingText(NamedTuple):
    """The text that a model is writing in some process, so far. Small state that is overwritten, never a record."""

    holder: str
    """Who drives the session."""
    call_id: str
    """Of the attempt; another one means: start over."""
    send_index: int
    round_index: int | None
    after: int
    """seq of the record behind which it is written; once there is a later one, it has passed."""
    pieces: tuple[tuple[bool, str], ...] = ()
    """(is it thought?, text), in the order in which it came."""


Heard = Callable[[str, int | None], None]
"""Told the session, and the seq of its last record where that is known."""


@runtime_checkable
class Hints(Protocol):
    """What a database may know beyond the two verbs of `Database`."""

    def version(self) -> Awaitable[object]:
        """Equal to the last answer when nobody committed anything in between; None when that cannot be told."""
        ...


@runtime_checkable
class Announces(Protocol):
    """A database that carries word of commits from process to process; for a hint, never for the fact."""

    def announce(self, session_id: str) -> None:
        """Tell other processes soon that something was committed to the session; from an event loop, and without waiting."""
        ...

    def hear_of_commits(self, heard: Heard) -> Callable[[], None]:
        """Have ``heard`` called, from any thread, when another process commits to a session; the answer ends it."""
        ...


class WatchedLog(Protocol):
    """What watching asks of a store."""

    @property
    def clock(self) -> Clock: ...

    async def spawn_depth(self, session_id: str) -> int:
        """0 for a root. Raises `SessionNotFoundError`."""
        ...

    async def watched(self, session_ids: Sequence[str]) -> list[Watched]:
        """How far these sessions are; those that do not exist are left out."""
        ...

    async def added(self, session_id: str, *, after: int, through: int, limit: int) -> list[RecordRow]:
        """The rows ``after < seq <= through``, in order, the first ``limit`` of them."""
        ...

    async def send_begins(self, session_id: str, seq: int) -> int:
        """The seq of the first record of the send that the record ``seq`` belongs to."""
        ...

    async def passing_text(self, session_id: str) -> PassingText | None:
        """What is being written, if somebody says so."""
        ...

    async def show_text(self, session_id: str, text: PassingText | None) -> None:
        """Overwrite it; None takes it away."""
        ...

    async def database_version(self) -> Any:
        """See `Hints.version`; None where the database gives no hints."""
        ...

    def on_append(self, heard: Heard) -> Callable[[], None]:
        """Have ``heard`` called after each append through this store, in the thread that appends; the answer ends it."""
        ...
