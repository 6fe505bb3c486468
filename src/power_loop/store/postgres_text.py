"""Statements as PostgreSQL reads them: ``?`` becomes ``$n``, and a whole batch becomes one statement where that means the same.

One statement is one message to the server and back, and a transaction of its own. Its parts all see the data as they were
before the first of them, so only batches whose parts do not concern each other are put together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

# What may hold a question mark that is no placeholder: strings, quoted names, comments. A quote within is doubled.
_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|(\?)", re.DOTALL)

_CHANGE = re.compile(r"\s*(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(\w+)(.*)", re.DOTALL | re.IGNORECASE)
_LOOKS_ELSEWHERE = re.compile(r"\b(SELECT|FROM|JOIN|USING|WITH|RETURNING|CONFLICT)\b", re.IGNORECASE)
_ANSWERS = re.compile(r"\bRETURNING\b", re.IGNORECASE)

# The server takes at most 65,535 parameters in a message (the protocol counts them in 16 bits); plans of long statements take long.
_MOST_PARTS = 64

BROKEN_GUARD = "power-loop: a guard did not hold; rows touched: "
"""Begins the text that the server is made to stumble over when a guard does not hold."""

Shape = tuple[tuple[str, int | None], ...]
"""The texts of a batch, each with the number of rows that it must touch."""


class Texts:
    """The texts of one database, each worked out once: there are few different ones, sent again and again."""

    def __init__(self) -> None:
        self.numbered: Callable[[str], str] = lru_cache(maxsize=512)(numbered)
        self.as_one: Callable[[Shape], str | None] = lru_cache(maxsize=512)(as_one)


def numbered(sql: str, first: int = 1) -> str:
    """``sql`` with its placeholders as ``$first``, ``$first+1``, ..."""
    numbers = iter(range(first, first + len(sql)))
    return _TOKEN.sub(lambda token: f"${next(numbers)}" if token[1] else token[0], sql)


def _placeholders(sql: str) -> int:
    return sum(1 for token in _TOKEN.finditer(sql) if token[1])


def as_one(shape: Shape) -> str | None:
    """One statement that does the same as all of them in turn; None where there is none.

    Its parameters are those of the parts, one after the other. When a guard does not hold it fails, and writes nothing.
    """
    if len(shape) > _MOST_PARTS or not _independent([sql for sql, _ in shape]):
        return None
    if len(shape) == 1 and shape[0][1] is None:
        return numbered(shape[0][0])
    parts: list[str] = []
    guards: list[tuple[str, int]] = []
    first = 1
    for place, (sql, touches) in enumerate(shape):
        counted = "" if touches is None else " RETURNING 1"
        parts.append(f"s{place} AS ({numbered(sql, first)}{counted})")
        if touches is not None:
            guards.append((f"(SELECT count(*) FROM s{place})", touches))
        first += _placeholders(sql)
    return f"WITH {', '.join(parts)} SELECT {_judged(guards)}"


def _judged(guards: list[tuple[str, int]]) -> str:
    """An expression that fails unless all guards hold; they are looked at in their order, so that rows are locked in it."""
    if not guards:
        return "0"
    hold = " AND ".join(f"{count} = {touches}" for count, touches in guards)
    told = " || ', ' || ".join(f"{count} || ' instead of {touches}'" for count, touches in guards)
    # Division by zero would do as well, but this text ends up in the server's log, where somebody will wonder.
    return f"CASE WHEN {hold} THEN 0 ELSE CAST('{BROKEN_GUARD}' || {told} AS integer) END"


def _independent(texts: list[str]) -> bool:
    """No part could see what another one does, or touch a row that another one touches."""
    changed: dict[str, bool] = {}
    for sql in texts:
        change = _CHANGE.fullmatch(sql)
        if change is None or (_ANSWERS if len(texts) == 1 else _LOOKS_ELSEWHERE).search(change[3]):
            return False
        verb, table = change[1][:6].upper(), change[2].lower()
        if not changed.get(table, True) or (table in changed and verb != "INSERT"):
            return False
        changed[table] = verb == "INSERT"
    return True
