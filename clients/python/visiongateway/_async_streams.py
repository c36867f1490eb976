"""Answers that come in pieces, for the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from visiongateway._answers import Row, row
from visiongateway._errors import VisionError, cut_off, decode
from visiongateway._options import Call
from visiongateway._sent import Sending
from visiongateway.v1.vision_service_pb2 import Agreement

A = TypeVar("A")


class AsyncMessages:
    """The messages of a streamed call; begins anew, before the first one, where its images must be sent whole."""

    def __init__(self, start: Callable[[Call], Any], prepare: Callable[[], Awaitable[tuple[Call, Sending]]]) -> None:
        """*prepare* reads the images when the first message is wanted, and *start* makes the gRPC call."""
        self.request_id = ""
        self.closed = False
        self._start = start
        self._prepare = prepare
        self._begun = False
        self._sending: Sending | None = None
        self._running: Any = None

    def __del__(self) -> None:
        # A call of grpc.aio is kept alive by its own tasks, and would go on although nobody can read it any more.
        with suppress(RuntimeError):  # The event loop may be closed by now, and the call with it.
            self.close()

    async def next(self) -> Any:
        """Gives the next one; None at the end, and once closed."""
        if self._sending is None and not self.closed:
            self._call, self._sending = await self._prepare()
            self.request_id = self._call.request_id
        while self._sending and not self.closed:
            self._running = self._running or self._start(self._call)
            try:
                message = await self._read(self._running)
            except grpc.aio.AioRpcError as error:
                failure = decode(error, self.request_id)
                if self._begun or not self._sending.again(failure):
                    raise failure from error
                self._running = None
            else:
                if not self._begun:
                    self._sending.answered()
                self._begun = True
                return message
        return None

    async def _read(self, running: Any) -> Any:
        try:
            message = await running.read()
        except asyncio.CancelledError:
            # What is read while another task closes the stream ends so too.
            task = asyncio.current_task()
            if not self.closed or (task and task.cancelling()):
                raise
            return None
        return None if message is grpc.aio.EOF else message

    def close(self) -> None:
        """Cancels the call unless it is over."""
        self.closed = True
        if self._running is not None:
            self._running.cancel()


class _AsyncStream:
    """What all streams have."""

    def __init__(self, messages: AsyncMessages) -> None:
        self._messages = messages

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the stream; a call that is not over is cancelled, and its model stops writing."""
        self._messages.close()


class AsyncTextStream(_AsyncStream, Generic[A]):
    """The text of an answer, piece by piece, as a model writes it; then the whole answer.

    The call begins, and its images are read, when the first piece is wanted. Otherwise like `TextStream`, whose twin it
    is.
    """

    def __init__(self, messages: AsyncMessages) -> None:
        super().__init__(messages)
        self._pieces: list[str] = []
        self._answer: A | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            while (message := await self._messages.next()) is not None:
                if message.HasField("delta"):
                    self._pieces.append(message.delta)
                    return str(message.delta)
                self._answer = message.answer
            if self._answer is None and not self._messages.closed:
                raise cut_off(self._messages.request_id)
        except VisionError as failure:
            failure.partial_text = self.text
            raise
        raise StopAsyncIteration

    @property
    def text(self) -> str:
        """What has come so far."""
        return "".join(self._pieces)

    @property
    def answer(self) -> A:
        """The whole answer, as the method without `stream_` gives it.

        Raises:
            RuntimeError: The stream was not read to its end.
        """
        if self._answer is None:
            raise RuntimeError("the stream was not read to its end, where the answer comes")
        return self._answer


class AsyncComparison(_AsyncStream):
    """What several models say, each as it comes; then how far they agree.

    The call begins, and its images are read, when the first row is wanted. Otherwise like `Comparison`, whose twin it
    is.
    """

    def __init__(self, messages: AsyncMessages) -> None:
        super().__init__(messages)
        self._agreement: Agreement | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row:
        while (message := await self._messages.next()) is not None:
            if not message.HasField("agreement"):
                return row(message)
            self._agreement = message.agreement
        if self._agreement is None and not self._messages.closed:
            raise cut_off(self._messages.request_id)
        raise StopAsyncIteration

    @property
    def agreement(self) -> Agreement:
        """How far every two models that answered agree.

        Raises:
            RuntimeError: The comparison was not read to its end.
        """
        if self._agreement is None:
            raise RuntimeError("the comparison was not read to its end, where the agreement comes")
        return self._agreement
