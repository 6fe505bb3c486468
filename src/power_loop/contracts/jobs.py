"""What runs beside a session: the row of one job, and what may be said of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

JobStatus = Literal["running", "completed", "failed", "timeout", "error", "stopped", "waiting"]
"""``error``: it could not be run, or the process that ran it was lost; ``waiting``: for somebody, or for whoever goes on with it."""


class Job(NamedTuple):
    """Something that runs, or ran, beside a session. Times in ms."""

    session_id: str
    job_id: str
    kind: str
    """``command`` for a background command; ``agent`` or ``workflow``: then its id is that of its session."""
    command: str
    """Or the name of what runs."""
    status: JobStatus
    return_code: int | None
    output: str
    """The end of what it printed; empty while it runs."""
    holder: str | None
    """Who runs it, or ran it: a name whose life or death can be proved on its own machine."""
    timeout_s: float | None
    stop: str | None
    """Why it shall stop, once somebody asked for that."""
    created_at: int
    updated_at: int

    @property
    def state(self) -> str:
        """``running``, ``completed``, ``failed(3)``, ``timeout``, ``error`` or ``stopped``."""
        return state_of(self.status, self.return_code)


def state_of(status: JobStatus, return_code: int | None) -> str:
    """The status in a word, with the exit code of what failed."""
    return f"failed({return_code})" if status == "failed" else status
