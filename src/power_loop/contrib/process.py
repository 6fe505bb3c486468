"""Which process this is, without asking the system for each event: a fork says so itself."""

from __future__ import annotations

import os


class Process:
    """This process."""

    id: int = os.getpid()

    @classmethod
    def forked(cls) -> None:
        """It is a child now."""
        cls.id = os.getpid()


if hasattr(os, "register_at_fork"):  # not where processes cannot fork
    os.register_at_fork(after_in_child=Process.forked)
