"""Blackboards on any engine: a row for each entry beside the small state, and one that counts them.

Whoever adds or removes an entry changes the counting row as well, by compare-and-set. So bounds hold over processes, and
numbers are given once.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from power_loop.contracts.boards import BlackboardEntry
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import BlackboardError
from power_loop.contracts.store import Conflict, Statement
from power_loop.contracts.text import MAX_KEY_CHARS, check_key, check_text
from power_loop.store.part import Part
from power_loop.store.sql_store import SessionStore
from power_loop.store.values import ADD, CHANGE, DROP

ALL = "SELECT state_key, value, version, created_at, updated_at FROM {p}state WHERE owner = ?"
# No session id holds this character, so no session's state is met here, or deleted.
OWNER = "board|"
COUNTER, ENTRY = "next", "entry:"
MAX_NAME_CHARS = 64


class Kept(NamedTuple):
    """An entry as it is stored."""

    entry: BlackboardEntry
    version: int
    key: str | None
    """What it was posted with."""


class Board(NamedTuple):
    """One board as one read saw it."""

    entries: dict[int, Kept]
    next_id: int
    version: int
    """Of the row that counts; 0 before the first entry."""


class SqliteBlackboard(Part):
    """The blackboards of a store, whatever its engine. Any number of these, in any number of processes, see the same boards."""

    max_entries: int
    max_text_len: int

    def __init__(self, store: SessionStore, *, max_entries: int = 60, max_text_len: int = 2000) -> None:
        """``max_entries`` on one board, ``max_text_len`` characters in one entry. No I/O happens here."""
        if max_entries < 1 or max_text_len < 1:
            raise ValueError(f"max_entries={max_entries!r}, max_text_len={max_text_len!r}: both must be positive")
        super().__init__(store.database, store.dialect, store.table_prefix, store.clock, store.ids)
        self.max_entries, self.max_text_len = max_entries, max_text_len

    async def read(self, board_id: str) -> list[BlackboardEntry]:
        """Oldest first; empty for a board that nobody has written on."""
        return [kept.entry for kept in (await self._board(board_id)).entries.values()]

    async def post(
        self, board_id: str, text: str, *, kind: str = "note", status: str = "open", author: str = "", key: str | None = None
    ) -> BlackboardEntry:
        """A new entry; where one stands that was posted with this ``key``, that one.

        Raises `BlackboardError` for a blank or too long text, and on a full board.
        """
        self._check(text, kind=kind, status=status, author=author)
        while True:
            board = await self._board(board_id)
            before = next((kept.entry for kept in board.entries.values() if key is not None and kept.key == key), None)
            if before is not None:
                return before
            if len(board.entries) >= self.max_entries:
                raise BlackboardError(f"board {board_id!r} has {len(board.entries)} entries, and no room for more: remove one first")
            now, version = self._clock.now_ms(), self._version()
            entry = BlackboardEntry(board.next_id, text, kind, status, author, now, now)
            add = Statement(self._sql(ADD), (_owner(board_id), f"{ENTRY}{entry.id}", _value(entry, key), version, now, now))
            try:
                written = await self._write_once([self._counted(board_id, board, entry.id + 1), add])
            except Conflict:
                continue
            if written or await self._stands(board_id, entry.id, version):
                return entry

    async def update(self, board_id: str, entry_id: int, *, text: str | None = None, status: str | None = None) -> BlackboardEntry:
        """The entry as it is now; what is not given stays. Raises `BlackboardError`, also where there is no such entry."""
        while True:
            kept = (await self._board(board_id)).entries.get(entry_id)
            if kept is None:
                raise BlackboardError(f"board {board_id!r} has no entry {entry_id}")
            old, now, version = kept.entry, self._clock.now_ms(), self._version()
            entry = old._replace(
                text=old.text if text is None else text, status=old.status if status is None else status, updated_at=now
            )  # fmt: skip
            self._check(entry.text, status=entry.status)
            place = (_owner(board_id), f"{ENTRY}{entry_id}", kept.version)
            change = Statement(self._sql(CHANGE), (_value(entry, kept.key), version, now, *place), 1)
            try:
                written = await self._write_once([change])
            except Conflict:
                continue
            if written or await self._stands(board_id, entry_id, version):
                return entry

    async def remove(self, board_id: str, entry_id: int) -> bool:
        """False when there was no such entry."""
        while True:
            board = await self._board(board_id)
            if entry_id not in board.entries:
                return False
            drop = Statement(self._sql(DROP), (_owner(board_id), f"{ENTRY}{entry_id}"), 1)
            try:
                written = await self._write_once([self._counted(board_id, board, board.next_id), drop])
            except Conflict:
                continue
            if written or entry_id not in (await self._board(board_id)).entries:
                return True

    # --- rows -----------------------------------------------------------------------------------

    async def _board(self, board_id: str) -> Board:
        entries, next_id, counted = list[Kept](), 1, 0
        for name, value, version, created_at, updated_at in await self._database.read(self._sql(ALL), (_owner(board_id),)):
            told = json.loads(value)
            if name == COUNTER:
                next_id, counted = told, version
            else:
                number = int(name.removeprefix(ENTRY))
                entry = BlackboardEntry(number, told["text"], told["kind"], told["status"], told["author"], created_at, updated_at)
                entries.append(Kept(entry, version, told.get("key")))
        return Board({kept.entry.id: kept for kept in sorted(entries, key=lambda kept: kept.entry.id)}, next_id, counted)

    def _counted(self, board_id: str, seen: Board, next_id: int) -> Statement:
        """Entries come and go; refused where they did so since ``seen``."""
        now, owner, value, version = self._clock.now_ms(), _owner(board_id), dumps(next_id), self._version()
        if seen.version:
            return Statement(self._sql(CHANGE), (value, version, now, owner, COUNTER, seen.version), 1)
        return Statement(self._sql(ADD), (owner, COUNTER, value, version, now, now))

    async def _stands(self, board_id: str, entry_id: int, version: int) -> bool:
        """After a COMMIT that raised: is the entry there as we wrote it?"""
        kept = (await self._board(board_id)).entries.get(entry_id)
        return kept is not None and kept.version == version

    def _version(self) -> int:
        """Random, so that our row is told from an equal one that somebody else wrote."""
        return self._ids.bits(62) | 1

    def _check(self, text: str, **names: str) -> None:
        if not text.strip():
            raise BlackboardError("an entry needs a text")
        if len(text) > self.max_text_len:
            raise BlackboardError(f"an entry holds at most {self.max_text_len} characters, and this one has {len(text)}: say it shorter")
        for what, name in names.items():
            if len(name) > (MAX_KEY_CHARS if what == "author" else MAX_NAME_CHARS):
                raise BlackboardError(f"{what} {name!r:.80} is too long")
        for what, each in {"text": text, **names}.items():
            try:
                check_text(what, each)
            except ValueError as error:
                raise BlackboardError(str(error)) from error


def _owner(board_id: str) -> str:
    owner = OWNER + board_id
    if not board_id.strip():
        raise BlackboardError("a board needs an id")
    try:
        check_key("board id", owner)
    except ValueError as error:
        raise BlackboardError(str(error)) from error
    return owner


def _value(entry: BlackboardEntry, key: str | None) -> str:
    told: dict[str, Any] = {"text": entry.text, "kind": entry.kind, "status": entry.status, "author": entry.author}
    return dumps(told if key is None else {**told, "key": key})
