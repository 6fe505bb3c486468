"""What leaves elsewhere cost the sends above a run: ledgers are looked at before such a leaf begins, and charged once it has ended.

Leaves in this process do that themselves, call by call. A leaf elsewhere cannot see a ledger, so it is given a share of what
is left, which is reserved for it; one that used up its share goes on with another, as long as there is any. What it used is
charged in the batch that writes down what came of it: once, whoever begins it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from power_loop.contracts.ledger import NOTHING, Change, Charge, Entries, Ledger, Reservation, Sums, call_key, ledger_id_of
from power_loop.contracts.store import SessionLog
from power_loop.contracts.usage import CallUsage

PURPOSE = "leaf"

Share = dict[str, float]
"""Under the names of limits, how much of each."""


class Above:
    """The ledgers of the sends above one run, and what its leaves elsewhere have reserved and spent there."""

    def __init__(self, log: SessionLog, session_id: str) -> None:
        self._log, self._session_id = log, session_id
        self._ledgers: list[Ledger] = []
        """The topmost session's first, as last read."""
        self._missing: set[str] = set()
        """Of these, the ones that do not exist yet."""
        self._shares: dict[str, tuple[Share, list[Reservation]]] = {}
        """What leaves that run have, by their keys."""
        self._count = 0
        self._want: list[Reservation] = []
        self._spent: list[tuple[int, int, CallUsage]] = []
        self._settled: list[str] = []

    async def open(self) -> None:
        """What an earlier driver left reserved is given back with the next batch: its leaves are begun again, and found."""
        self._settled = [each.call_key for each in await self._log.reservations(self._session_id)]

    @property
    def owes(self) -> bool:
        """Something is to be written."""
        return bool(self._want or self._spent or self._settled)

    # --- before a leaf ------------------------------------------------------------------------

    async def share(self, key: str, among: int, send_index: int) -> Share | None:
        """What the leaf may use, one of ``among`` that begin now; None when nothing is left. It is reserved with the next batch."""
        await self.look()
        share: Share = {}
        for ledger in self._ledgers:
            left = self._left(ledger)
            if any(amount <= 0 for amount in left.values()):
                return None
            share |= {name: min(amount, share.get(name, amount)) for name, amount in left.items()}
        share = {name: amount / among if name == "cost" else max(1, int(amount) // among) for name, amount in share.items()}
        if share:
            self._count += 1
            amount = _reserved(share)
            self._want = [
                Reservation(call_key(send_index, self._count, level, PURPOSE), ledger.ledger_id, amount)
                for level, ledger in enumerate(self._ledgers)
                if ledger.limits
            ]
            self._shares[key] = share, self._want
        return share

    def _left(self, ledger: Ledger) -> Share:
        """What nobody has spent or reserved, under each limit."""
        taken = ledger.spent.plus(ledger.reserved).by_limit()
        ours = [share for share, _ in self._shares.values()]
        return {name: limit - taken[name] - sum(share.get(name, 0) for share in ours) for name, limit in ledger.limits.items()}

    def has(self, key: str) -> bool:
        """The leaf was let through."""
        return key in self._shares

    async def look(self) -> None:
        """Read the ledgers. A share that is wanted, and meanwhile was taken by somebody else, is wanted no more."""
        sends = {ledger_id_of(*send): send for send in await self._log.sends_above(self._session_id)}
        found = {one.ledger_id: one for one in await self._log.ledgers(list(sends), asking=self._session_id)}
        self._ledgers = [found.get(one) or Ledger(one, *send) for one, send in sends.items()]
        self._missing = sends.keys() - found.keys()
        self._want = [each for each in self._want if each.ledger_id in found]
        if self._want and any(amount < 0 for ledger in self._ledgers for amount in self._left(ledger).values()):
            self._shares.pop(next(reversed(self._shares)))
            self._want = []

    # --- after it -------------------------------------------------------------------------------

    def back(self, key: str) -> None:
        """The leaf has ended, or was cut off: what was reserved for it is given back with the next batch."""
        _, reserved = self._shares.pop(key, ({}, []))
        self._settled += [each.call_key for each in reserved]

    def charge(self, send_index: int, seq: int, usage: CallUsage) -> None:
        """The record ``seq`` of the run says that a leaf used that."""
        self._spent.append((send_index, seq, usage))

    # --- with a batch -----------------------------------------------------------------------------

    def entries(self, *, release: bool) -> Entries | None:
        """What the next batch changes in the ledgers."""
        charges = bool(self._spent)
        spent = NOTHING
        for _, _, usage in self._spent:
            spent = spent.plus(Sums.of(usage))
        opened = [ledger for ledger in self._ledgers if charges and ledger.ledger_id in self._missing]
        changed = [
            Change(ledger.ledger_id, spent, ledger.version if self._want and ledger.limits else None)
            for ledger in self._ledgers
            if charges or (self._want and ledger.limits)
        ]
        lines = [
            Charge(ledger.ledger_id, ledger.session_id, send_index, seq, PURPOSE, None, usage)
            for send_index, seq, usage in self._spent
            for ledger in self._ledgers
        ]
        want = [] if release else self._want
        entries = Entries(opened, changed, lines, want, list(self._settled), release and bool(self._shares or self._settled))
        return entries if any(entries) else None

    def wrote(self) -> None:
        """The next batch is there."""
        self._want, self._spent, self._settled = [], [], []


def _reserved(share: Mapping[str, float]) -> Sums:
    """A share as a reservation tells it, which knows no total: that stands for input, less what output has of its own."""
    written = int(share.get("output_tokens", 0))
    read = int(share.get("input_tokens", max(0, share.get("total_tokens", 0) - written)))
    return Sums(1, 0, read, written, float(share.get("cost", 0.0)))
