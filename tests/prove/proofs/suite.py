"""What every suite is: cases that can be listed, drawn from, and run one by one."""

from __future__ import annotations

import random
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self


class Missing(Exception):
    """What this suite needs is not on this machine: a compiler, a server. Raised by opening it."""


class Suite(ABC):
    """Open it with ``with``; a case is a plain value whose repr is enough to run it again."""

    name = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, stack: ExitStack) -> None:  # noqa: B027 - a suite may need nothing
        """Make what the cases need, and leave with ``stack`` how it is given back. Raises `Missing`."""

    def done(self) -> str:
        """What the cases came to, where they are not all there is to count."""
        return ""

    @abstractmethod
    def cases(self) -> Sequence[Any]:
        """All of them, in order; the same ones every time."""

    @abstractmethod
    def run(self, case: Any) -> list[str]:
        """What this case violated; empty when all is well."""

    def sample(self, count: int, seed: int = 0) -> list[Any]:
        """So many cases, drawn by ``seed``."""
        cases = list(self.cases())
        return random.Random(f"{self.name} {seed}").sample(cases, min(count, len(cases)))

    def violations(self, cases: Iterable[Any], most: int = 20) -> list[str]:
        """What these cases violated, each with the case; stops after ``most`` cases that failed."""
        found: list[str] = []
        failed = 0
        for case in cases:
            wrong = self._run(case)
            found += [f"{case!r}: {text}" for text in wrong]
            failed += bool(wrong)
            if failed >= most:
                break
        return found

    def notices(self, cases: Iterable[Any]) -> bool:
        """At least one of these cases fails: what a mutation must bring about."""
        return any(self._run(case) for case in cases)

    def _run(self, case: Any) -> list[str]:
        try:
            return self.run(case)
        except Exception as error:  # of whatever is being hurt: a case that cannot be told is one that failed
            return ["".join(traceback.format_exception(error))]
