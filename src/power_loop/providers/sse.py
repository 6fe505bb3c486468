"""Server-sent events: bytes in, the data of each event out.

Only what model servers use (html.spec.whatwg.org, "Server-sent events"): data lines, joined, until an empty line.
What the data means is the transports' business.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """The data of each event that has some. An event that the end of the stream cut off is left out."""
    data = list[str]()
    async with aclosing(_lines(chunks)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            elif not line:
                if (text := "\n".join(data)).strip():
                    yield text
                data = []


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The lines of a stream, each as soon as it ends; what begins with no end is left out."""
    rest, first, half = b"", True, False
    async for chunk in chunks:
        # After a carriage return at the very end of a chunk, a line feed is the other half of that line end.
        piece = chunk.removeprefix(b"\n") if half else chunk
        half = piece.endswith(b"\r") or (half and not chunk)
        *lines, rest = _LINE_END.split(rest + piece)
        for line in lines:
            yield line.removeprefix(_BYTE_ORDER_MARK) if first else line
            first = False
