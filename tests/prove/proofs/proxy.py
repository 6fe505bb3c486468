"""A line to a server that can be cut: at any piece that the client sends, before it, after it, or without a word."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal, Self

Cut = Literal["request", "reply", "stall"]
"""The piece does not arrive; it arrives and its answer does not; from it on nothing arrives, and nobody is told."""

PIECE = 1 << 16
# A piece that gets no answer (a farewell, a part of a longer text) must not hold the cut up.
NO_ANSWER_S = 0.3


class Proxy:
    """Stands before a server on this machine, at ``port``; use it with ``async with``."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._how: Cut | None = None
        self._at = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.pieces = 0
        """That clients sent since the last `cut_at`."""
        self.was_cut = False

    def cut_at(self, piece: int, how: Cut | None) -> None:
        """Count anew, and cut once, at the piece of this number; 0 for never."""
        self.pieces, self._at, self._how, self.was_cut = 0, piece, how, False

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._line, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _line(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                await self._carry(client, to_client, server, to_server)
            finally:
                to_server.transport.abort()
        to_client.transport.abort()
        self._tasks.discard(task)

    async def _carry(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, server: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        back = asyncio.create_task(_copy(server, to_client))
        try:
            while piece := await _next(client, back):
                self.pieces += 1
                if self.pieces != self._at or self._how is None:
                    to_server.write(piece)
                    continue
                self.was_cut = True
                if self._how == "stall":
                    await asyncio.Event().wait()
                if self._how == "reply":
                    back.cancel()
                    to_server.write(piece)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(server.read(PIECE), NO_ANSWER_S)
                return
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)


async def _next(client: asyncio.StreamReader, back: asyncio.Task[None]) -> bytes:
    """What the client sends next; empty when one of the two ends hung up."""
    reading = asyncio.ensure_future(client.read(PIECE))
    await asyncio.wait((reading, back), return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        return reading.result()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return b""


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
