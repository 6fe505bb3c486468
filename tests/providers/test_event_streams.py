"""Server-sent events as the standard writes them, whatever the network makes of the bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from power_loop.providers.sse import event_data

STREAMS = {
    "line feeds": b"data: one\n\ndata: two\n\n",
    "carriage returns": b"data: one\r\rdata: two\r\r",
    "both": b"data: one\r\n\r\ndata: two\r\n\r\n",
    "a mark of the byte order": b"\xef\xbb\xbfdata: one\n\ndata:two\n\n",
    "events without data": b"data:\n\n: hello\n\ndata: one\n\nevent: ping\nid: 3\n\ndata: \n\ndata: two\n\n",
    "an event that is cut off": b"data: one\n\ndata: two\n\ndata: three\n",
}


async def read(*chunks: bytes) -> list[str]:
    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [text async for text in event_data(arriving())]


@pytest.mark.parametrize("how", STREAMS)
async def test_events_are_the_same_however_their_lines_end_and_their_bytes_arrive(how: str) -> None:
    stream = STREAMS[how]
    assert await read(stream) == ["one", "two"]
    assert await read(*(bytes([byte]) for byte in stream)) == ["one", "two"]
    assert await read(*(part for byte in stream for part in (bytes([byte]), b""))) == ["one", "two"]


async def test_the_lines_of_one_event_are_joined() -> None:
    assert await read(b"data: {\ndata:\ndata:  1}\n\n") == ["{\n\n 1}"]


async def test_an_event_is_told_before_the_next_byte_arrives() -> None:
    async def held() -> AsyncIterator[bytes]:
        yield b"data: one\r\r"
        pytest.fail("the event is whole")

    assert await anext(event_data(held())) == "one"
