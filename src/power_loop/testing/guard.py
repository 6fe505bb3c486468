"""No test shall pay a model by accident."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from power_loop.providers.guard import REAL_CALLS


class Forbidding:
    """From its making until `allow`, or the end of its ``with``, every real transport raises instead of calling."""

    def __init__(self) -> None:
        self._active = True
        REAL_CALLS.change(+1)

    def allow(self) -> None:
        """Take it back. May be called more than once."""
        if self._active:
            self._active = False
            REAL_CALLS.change(-1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.allow()


def forbid_model_calls() -> Forbidding:
    """Have every real transport of this process raise `ModelCallForbidden`, at once and until it is taken back.

    Once in ``conftest.py`` guards a whole suite; ``with forbid_model_calls():`` guards a block.
    """
    return Forbidding()
