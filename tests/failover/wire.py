"""A TCP forwarder before a server that others wrote, which breaks connections as their servers cannot."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What becomes of a connection on which *after* is seen, on its way to the server or back."""

    after: bytes
    direction: Literal["up", "down"]
    then: Literal["reset", "close", "silence"]


# The request is not forwarded; an answer goes as far as the mark.
RESET_BEFORE_ANSWER = Fault(b"POST ", "up", "reset")
CUT_BODY = Fault(b'"output"', "down", "close")
STALLED_BODY = Fault(b'"output"', "down", "silence")


class Wire:
    """Forwards every connection to one server at `HOST:PORT`, as it is but for what it is told to break."""

    def __init__(self, target):
        self._host, self._port = target.rsplit(":", 1)
        self._fault = None
        self._times = 0
        self._connections = set()
        self._ends = set()
        self._hidden = b""
        # Requests that the server was not given.
        self.swallowed = 0
        self.address = ""

    def break_with(self, fault, *, times=1_000_000):
        """Breaks the next *times* connections that carry what *fault* waits for."""
        self._fault, self._times = fault, times

    def hide(self, header):
        """Takes *header*, as the server writes it, out of the answers."""
        self._hidden = header

    async def serve(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except ConnectionError:
            # Without a listener the kernel would have said so with a reset too.
            self._reset(writer)
            return
        self._connections.add(asyncio.current_task())
        ends = (writer, up_writer)
        self._ends |= {*ends}
        try:
            await asyncio.gather(
                self._copy(reader, up_writer, "up", ends),
                self._copy(up_reader, writer, "down", ends),
            )
        finally:
            for end in ends:
                end.close()
            self._connections.discard(asyncio.current_task())

    async def end(self):
        for end in self._ends:
            end.close()
        await asyncio.gather(*self._connections)

    async def _copy(self, reader, writer, direction, ends):
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                fault = self._fault
                if self._times and fault.direction == direction and fault.after in data:
                    self._times -= 1
                    await self._break(data, writer, ends)
                    return
                writer.write(data.replace(self._hidden, b"X-Hidden") if self._hidden else data)
                await writer.drain()
        writer.close()

    async def _break(self, data, writer, ends):
        fault = self._fault
        if fault.direction == "up":
            self.swallowed += 1
        else:
            writer.write(data[: data.index(fault.after) + len(fault.after)])
            await writer.drain()
        if fault.then == "silence":
            return
        for end in ends:
            if fault.then == "reset":
                self._reset(end)
            else:
                end.close()

    def _reset(self, end):
        # With no time to linger, a close is a reset.
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()


@asynccontextmanager
async def before(url):
    """Puts a wire before the server at *url* (or `HOST:PORT`)."""
    wire = Wire(urlsplit(url).netloc or url)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        await wire.end()
