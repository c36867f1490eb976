from __future__ import annotations

import asyncio

import pytest

from gateway.domain import Trace
from gateway.errors import BackendUnavailable
from gateway.server.deltas import deltas
from visiongateway.v1.vision_service_pb2 import StreamCaptionResponse

MOST = 65_536


class Reader:
    """Stands in for a caller: takes a message whenever it is told to read one, or at once."""

    def __init__(self, *, slow=False, error=None):
        self.messages = []
        self.now = 0.0
        self.trace = Trace()
        self._slow = slow
        self._error = error
        self._reading = asyncio.Semaphore(0)

    def open(self):
        return deltas(StreamCaptionResponse, self._emit, self.trace, lambda: self.now)

    def read(self, count=1):
        for _ in range(count):
            self._reading.release()

    async def _emit(self, message):
        if self._error:
            raise self._error
        self.messages.append(message.delta)
        if self._slow:
            await self._reading.acquire()


async def turn():
    """Lets everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_piece_goes_out_by_itself_to_a_reader_that_keeps_up():
    reader = Reader()
    async with reader.open() as sink:
        for word in ("a ", "cat ", "sits"):
            await sink.write(word)
            await turn()

    assert reader.messages == ["a ", "cat ", "sits"]


async def test_what_comes_while_a_message_is_on_its_way_goes_as_one():
    reader = Reader(slow=True)
    async with reader.open() as sink:
        for word in ("a ", "cat ", "sits ", "here"):
            await sink.write(word)
            await turn()
        reader.read(2)

    assert reader.messages == ["a ", "cat sits here"]


async def test_a_model_waits_for_a_reader_only_when_much_waits_for_it_already():
    reader = Reader(slow=True)
    async with reader.open() as sink:
        await sink.write("x")
        await turn()
        await sink.write("y" * (MOST - 1))
        last = asyncio.create_task(sink.write("z"))
        await turn()
        waited = not last.done()
        reader.now = 3.0
        reader.read(2)
        await last

    assert (waited, reader.trace.reader_s) == (True, 3.0)
    assert [len(message) for message in reader.messages] == [1, MOST]


async def test_a_reader_has_what_was_written_before_the_model_failed():
    reader = Reader(slow=True)

    async def call():
        async with reader.open() as sink:
            await sink.write("a ")
            await turn()
            await sink.write("cat")
            reader.read(2)
            raise BackendUnavailable("it broke")

    with pytest.raises(BackendUnavailable):
        await call()

    assert reader.messages == ["a ", "cat"]


async def test_nothing_more_goes_out_once_the_call_is_taken_back():
    reader = Reader(slow=True)

    async def call():
        async with reader.open() as sink:
            await sink.write("a ")
            await turn()
            await sink.write("cat")
            await asyncio.Event().wait()

    called = asyncio.create_task(call())
    await turn()
    called.cancel()
    reader.read(2)
    await turn()

    assert (called.cancelled(), reader.messages) == (True, ["a "])


async def test_a_caller_that_cannot_be_written_to_ends_the_call():
    reader = Reader(error=ConnectionError())

    async def call():
        async with reader.open() as sink:
            await sink.write("a ")
            await turn()
            await sink.write("cat")

    with pytest.raises(ConnectionError):
        await call()
