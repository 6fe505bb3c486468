"""Small state: one JSON value under an owner and a key, changed by compare-and-set on its version."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from power_loop.contracts.codec import dumps
from power_loop.contracts.store import Conflict, Statement
from power_loop.contracts.text import check_key
from power_loop.store.part import Part, nobody_knows

READ = "SELECT value, version FROM {p}state WHERE owner = ? AND state_key = ?"
ADD = "INSERT INTO {p}state (owner, state_key, value, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
CHANGE = "UPDATE {p}state SET value = ?, version = ?, updated_at = ? WHERE owner = ? AND state_key = ? AND version = ?"
DROP = "DELETE FROM {p}state WHERE owner = ? AND state_key = ?"


class _Skip:
    """The type of `MUTATE_SKIP`."""


MUTATE_SKIP: Final = _Skip()
"""What the function of `mutate_runtime_state` returns to leave the value as it is."""


class Values(Part):
    """Values that belong to a session, or to any other owner that the host names."""

    async def get_runtime_state(self, session_id: str, key: str, default: Any = None) -> Any:
        """The value; ``default`` only when there is none (a stored null is a value)."""
        value, version = await self._read(session_id, key)
        return value if version else default

    async def set_runtime_state(self, session_id: str, key: str, value: Any) -> None:
        await self.mutate_runtime_state(session_id, key, lambda _: value)

    async def delete_runtime_state(self, session_id: str, key: str) -> None:
        await self._write_once([Statement(self._sql(DROP), (session_id, key))])

    async def mutate_runtime_state(self, session_id: str, key: str, fn: Callable[[Any], Any], *, default: Any = None) -> Any:
        """Change the value atomically: ``fn(old)`` gives the new one, or `MUTATE_SKIP`.

        ``fn`` may run again when somebody else was faster. The value as it is afterwards.
        """
        check_key("key", key)
        while True:
            old, version = await self._read(session_id, key)
            current = old if version else default
            new = fn(current)
            if new is MUTATE_SKIP:
                return current
            try:
                await self._replace(session_id, key, dumps(new), version)
            except Conflict:
                continue
            return new

    async def _replace(self, owner: str, key: str, value: str, seen: int) -> None:
        """Write ``value`` over version ``seen``. Raises `Conflict` where another one stands."""
        # A random version tells our value from an equal one that somebody else wrote, when a COMMIT raised.
        version = self._ids.bits(62) | 1
        if await self._write_once([self._change(owner, key, value, seen, version)]):
            return
        _, now = await self._read(owner, key)
        if now != version:
            raise nobody_knows(f"the value {key!r} of {owner!r}", None)

    async def get_shared_state(self, owner: str, key: str, default: Any = None) -> Any:
        """A value that belongs to no session; ``owner`` is the host's own name for it."""
        return await self.get_runtime_state(f"shared:{owner}", key, default)

    async def set_shared_state(self, owner: str, key: str, value: Any) -> None:
        await self.set_runtime_state(f"shared:{owner}", key, value)

    async def delete_shared_state(self, owner: str, key: str) -> None:
        await self.delete_runtime_state(f"shared:{owner}", key)

    async def _read(self, owner: str, key: str) -> tuple[Any, int]:
        rows = await self._database.read(self._sql(READ), (owner, key))
        return (json.loads(rows[0][0]), rows[0][1]) if rows else (None, 0)

    def _change(self, owner: str, key: str, value: str, seen: int, version: int) -> Statement:
        now = self._clock.now_ms()
        if seen:
            return Statement(self._sql(CHANGE), (value, version, now, owner, key, seen), 1)
        return Statement(self._sql(ADD), (owner, key, value, version, now, now), 1)
