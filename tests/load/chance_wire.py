"""A TCP forwarder before an HTTP server that others wrote; by chance it resets, cuts, holds up or delays an exchange.

It counts the requests of each call by the id in their heads: what came, and what the server was given of it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["whole", "reset", "closed", "cut", "stalled", "slow"]
# Of every hundred requests; the rest goes through whole.
_PERCENT: dict[Fate, float] = {"reset": 3, "closed": 2, "cut": 4, "stalled": 2, "slow": 6}
_SLOW_S = 0.3
_HEAD_END = b"\r\n\r\n"
_ID = re.compile(rb"\r\nx-client-request-id: *([^\r]+)", re.IGNORECASE)


class ChanceWire:
    """Forwards every connection to one server; what happens to each request is drawn as it comes."""

    def __init__(self, url: str, random: Random) -> None:
        """The server is at *url*."""
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._random = random
        self._connections: set[asyncio.Task[None]] = set()
        self.fates: Counter[Fate] = Counter()
        # Requests by the id of their call: that came, and that the server was given.
        self.came: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards one connection until an end of it closes."""
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            await _Connection(self, (reader, writer), (up_reader, up_writer)).run()
        finally:
            self._connections.discard(task)

    def draw(self, head: bytes) -> Fate:
        """Counts a request with *head*, and says what becomes of it."""
        found = _ID.search(head)
        assert found, head
        request_id = found[1].decode()
        fate: Fate = self._random.choices([*_PERCENT, "whole"], [*_PERCENT.values(), 100 - sum(_PERCENT.values())])[0]
        self.came[request_id] += 1
        self.fates[fate] += 1
        if fate not in {"reset", "closed"}:
            self.given[request_id] += 1
        return fate

    def part(self, data: bytes) -> bytes:
        """Some of *data*, from its start: what is let through of an answer that breaks off."""
        return data[: self._random.randrange(len(data))]

    async def close(self) -> None:
        """Ends every connection."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


class _Connection:
    """One connection: requests come on it one after another, each with a fate of its own."""

    def __init__(
        self,
        wire: ChanceWire,
        caller: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._wire = wire
        self._caller, self._server = caller, server
        self._fate: Fate = "whole"

    async def run(self) -> None:
        ways = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            # Whichever end closes, the other one is told.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for _, writer in (self._caller, self._server):
                if self._fate == "reset":
                    # With no time to linger, a close is a reset.
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.close()

    async def _up(self) -> None:
        (reader, _), (_, writer) = self._caller, self._server
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if data.startswith(b"POST "):
                    while _HEAD_END not in data:
                        data += await reader.read(1 << 16)
                    self._fate = self._wire.draw(data[: data.index(_HEAD_END)])
                    if self._fate in {"reset", "closed"}:
                        return
                writer.write(data)
                await writer.drain()

    async def _down(self) -> None:
        (_, writer), (reader, _) = self._caller, self._server
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self._fate == "slow":
                    await asyncio.sleep(_SLOW_S)
                if self._fate in {"cut", "stalled"}:
                    writer.write(self._wire.part(data))
                    await writer.drain()
                    if self._fate == "cut":
                        return
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def before(url: str, random: Random) -> AsyncIterator[ChanceWire]:
    """Puts a wire before the server at *url*."""
    wire = ChanceWire(url, random)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
