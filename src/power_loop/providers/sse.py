"""Server-sent events: bytes in, the data of each event out.

Only what model servers use (html.spec.whatwg.org, "Server-sent events"): data lines, joined, until an empty line.
What the data means is the transports' business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """The data of each event. An event that the end of the stream cut off is left out."""
    rest, data = b"", list[str]()
    async for chunk in chunks:
        # A carriage return at the very end may be half of a line end: it waits for the next chunk.
        lines = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").rstrip(b"\r").decode("utf-8", "replace"))
            elif not line.strip(b"\r") and data:
                yield "\n".join(data)
                data = []
