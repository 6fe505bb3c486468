"""Events into a file that outlives the process: one line of JSON each, rotated, read back by `replay`.

A line is made when its event is heard, once for all sinks that write alike; a thread of its own writes it, so a slow disk
delays no run. Durable events come first: when the writer cannot keep up,
what only passes (deltas, progress) gives way, and is counted.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contracts.forks import mind_forks
from power_loop.contrib.jsonl_file import RotatingFile, replay
from power_loop.contrib.later import Later
from power_loop.contrib.redact import Redactor, word
from power_loop.contrib.seen import Seen
from power_loop.contrib.sink import Sink, only

__all__ = ["JsonlSink", "attach_jsonl_sink", "replay"]

# The queue of a bus is as long. Beyond it deltas and progress are dropped; all else is, at ten times this.
QUEUE_LIMIT = 1000
MAY_GIVE_WAY = frozenset({"stream_delta", "stream_think_delta", "tool_progress"})
# How long closing waits for a disk that does not answer, in seconds.
CLOSE_WAIT_S = 10.0


class JsonlSink(Sink):
    """What `attach_jsonl_sink` gives. ``close()`` detaches it and writes what is queued; ``dropped`` counts what was not taken."""

    def __init__(self, bus: EventBusProtocol, file: RotatingFile, redactor: Redactor, events: Iterable[str] | None, *, fsync: bool) -> None:
        self.dropped: int = 0
        self._file, self._redactor, self._fsync = file, redactor, fsync
        self._words = Seen(word)
        self._queue: deque[str] = deque()
        """Lines."""
        self._forked = False
        """In a child: the file is the parent's."""
        self._writer = Later("power-loop-jsonl", self._queue.__len__, self._write_queued)
        mind_forks(self, in_child=JsonlSink._fall_silent)
        super().__init__(bus, self._take, only(events))

    @property
    def path(self) -> Path:
        return self._file.path

    def flush(self, timeout: float | None = CLOSE_WAIT_S) -> bool:
        """Wait until what was heard so far is in the file; False when ``timeout`` (seconds) ran out first."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        super().close()
        if self._writer.close(CLOSE_WAIT_S) and not self._forked:
            self._file.close()

    def _fall_silent(self) -> None:
        self._forked = True
        self._queue.clear()

    def _take(self, event: AgentEvent) -> None:
        if self._forked:  # two processes in one file would tear its lines
            return
        queue = self._queue
        if len(queue) >= QUEUE_LIMIT and (len(queue) >= 10 * QUEUE_LIMIT or event.type in MAY_GIVE_WAY):
            self.dropped += 1
            return
        queue.append(self._line(event))
        self._writer.due()

    def _write_queued(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        failed = self.errors
        try:
            self._file.look()
            self._write(batch)
            self._file.flush(sync=self._fsync)
        except Exception as error:  # the flush's: a disk that is full, or gone
            self.failed(error, max(1, len(batch) - (self.errors - failed)))

    def _write(self, batch: list[str]) -> None:
        """All lines at once, unless the file is full before the last of them."""
        whole = "".join(batch)  # ASCII: as many bytes as characters
        for lines in [whole] if self._file.has_room(len(whole)) else batch:
            try:
                self._file.write(lines)
            except Exception as error:  # a full disk
                self.failed(error, lines.count("\n"))

    def _line(self, event: AgentEvent) -> str:
        """What `AgentEvent.to_dict` says, as one line; the payload without secrets."""
        words = self._words
        return (
            f'{{"type":{words[event.type]},"stream_id":{words[event.stream_id]},"send_index":{words[event.send_index]},'
            f'"depth":{event.depth},"record_seq":{word(event.record_seq)},"cursor":{word(event.cursor)},"mono":{event.mono!r},'
            f"{self._redactor.shown(event)}\n"
        )


def attach_jsonl_sink(
    bus: EventBusProtocol,
    path: str | os.PathLike[str],
    *,
    events: Iterable[str] | None = None,
    max_bytes: int = 10 * 1024 * 1024,
    backup_count: int = 5,
    max_field_len: int = 2000,
    redact_keys: Iterable[str] | None = None,
    redact_values: bool = True,
    fsync: bool = False,
) -> JsonlSink:
    """Append each event of ``bus`` (of the types in ``events``, if given) to the file at ``path``.

    At ``max_bytes`` the file becomes ``path.1``, and so on up to ``backup_count``, the oldest being lost; with 0 it grows
    for ever. ``fsync`` has every batch of lines survive a power failure. Raises `OSError` where the file cannot be opened.
    """
    if max_bytes < 1 or backup_count < 0:
        raise ValueError(f"max_bytes is {max_bytes} and backup_count {backup_count}; give bytes above 0 and a count from 0")
    redactor = Redactor(redact_keys=redact_keys, redact_values=redact_values, max_field_len=max_field_len)
    file = RotatingFile(Path(path), max_bytes, backup_count)
    file.write("")  # a path that cannot be written is said here, not counted later
    return JsonlSink(bus, file, redactor, events, fsync=fsync)
