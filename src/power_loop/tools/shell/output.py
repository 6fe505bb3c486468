"""What a command printed, kept within bounds however much it was, and shown as its first and last lines."""

from __future__ import annotations

HEAD_LINES, TAIL_LINES = 30, 170
# Kept of what is printed, at least. More than fits into a result, so that only lines decide what is left out.
HEAD_BYTES, TAIL_BYTES = 64 * 1024, 256 * 1024


class Output:
    """Bytes as they come; their beginning and end stay, the middle goes once there is too much."""

    __slots__ = ("_head", "_head_bytes", "_lines", "_tail", "_tail_bytes", "_total")

    def __init__(self, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._head_bytes, self._tail_bytes = head_bytes, tail_bytes
        self._head, self._tail = bytearray(), bytearray()
        self._total = self._lines = 0

    def feed(self, data: bytes) -> None:
        self._total += len(data)
        self._lines += data.count(b"\n")
        room = self._head_bytes - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        # Cut by halves, so that little is moved for each byte that comes.
        if len(self._tail) > 2 * self._tail_bytes:
            del self._tail[: len(self._tail) - self._tail_bytes]

    @property
    def total(self) -> int:
        """Bytes that came."""
        return self._total

    def lines(self, head: int = HEAD_LINES, tail: int = TAIL_LINES) -> str:
        """The first ``head`` and the last ``tail`` lines, with a marker between them for what is left out."""
        if self._lost == 0:
            lines = _text(self._head + self._tail).splitlines(keepends=True)
            left_out = len(lines) - head - tail
            if left_out <= 0:
                return "".join(lines)
            return f"{''.join(lines[:head])}{_marker(left_out, 0)}{''.join(lines[len(lines) - tail :])}"
        first, last = _text(self._head).splitlines(keepends=True)[:head], _text(self._tail).splitlines(keepends=True)[-tail:]
        shown = "".join(first), "".join(last)
        left_out = max(0, self._lines - shown[0].count("\n") - shown[1].count("\n"))
        cut = self._total - sum(len(text.encode("utf-8", "replace")) for text in shown)
        return f"{shown[0].rstrip(chr(10))}\n{_marker(left_out, max(0, cut))}{shown[1]}"

    def last(self, chars: int) -> str:
        """At most ``chars`` characters: all of it, or a marker and the end."""
        text = _text(self._head + self._tail) if self._lost == 0 else _text(self._tail)
        if self._lost == 0 and len(text) <= chars:
            return text
        marker = f"[... {self._total} bytes in all, the last of them follow ...]\n"
        return marker + text[len(text) - max(0, chars - len(marker)) :]

    @property
    def _lost(self) -> int:
        return self._total - len(self._head) - len(self._tail)


def _marker(lines: int, cut: int) -> str:
    left_out = f"{lines} lines" if not cut else f"{lines} lines, {cut} bytes"
    return f"[... {left_out} left out ...]\n"


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
