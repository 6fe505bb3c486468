"""A piece of a cluster, forked where the cluster's code is loaded already; a job is ``{"piece", "arguments", "dir", "pid", "env"}``.

Its process id stands in the file ``pid``, before anything else is done.
"""

from __future__ import annotations

import os
from pathlib import Path

from distributed.cli import dask_scheduler, dask_worker
from forks import Job, serve

import power_loop.workflow.worker  # noqa: F401 - what a leaf needs

MAINS = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}


def work(job: Job) -> None:
    Path(job["pid"]).write_text(str(os.getpid()))
    os.environ.update(job["env"])
    os.chdir(job["dir"])
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(quiet, stream)
    MAINS[job["piece"]](job["arguments"])


if __name__ == "__main__":
    serve(work)
