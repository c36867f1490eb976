"""Answers that come in pieces, for the synchronous client."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from visiongateway._answers import Row, row
from visiongateway._errors import VisionError, cut_off, decode
from visiongateway._options import Call
from visiongateway._sent import Sending
from visiongateway.v1.vision_service_pb2 import Agreement

A = TypeVar("A")


class Messages:
    """The messages of a streamed call; begins anew, before the first one, where its images must be sent whole."""

    def __init__(self, start: Callable[[Call], Any], call: Call, sending: Sending) -> None:
        """*start* makes the gRPC call."""
        self.request_id = call.request_id
        self.closed = False
        self._start = start
        self._call = call
        self._sending = sending
        self._begun = False
        self._running = start(call)

    def next(self) -> Any:
        """Gives the next one; None at the end, and once closed."""
        while not self.closed:
            try:
                message = next(self._running, None)
            except grpc.RpcError as error:
                if self.closed:
                    break
                failure = decode(error, self.request_id)
                if self._begun or not self._sending.again(failure):
                    raise failure from error
                self._running = self._start(self._call)
            else:
                if not self._begun:
                    self._sending.answered()
                self._begun = True
                return message
        return None

    def close(self) -> None:
        """Cancels the call unless it is over."""
        self.closed = True
        self._running.cancel()


class _Stream:
    """What all streams have."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream; a call that is not over is cancelled, and its model stops writing."""
        self._messages.close()


class TextStream(_Stream, Generic[A]):
    """The text of an answer, piece by piece, as a model writes it; then the whole answer.

    Iterate over it once. Whoever stops early closes it, best by using it as a context manager. A failure is raised
    where the next piece would come, a `VisionError` with what had come as its `partial_text`.
    """

    def __init__(self, messages: Messages) -> None:
        super().__init__(messages)
        self._pieces: list[str] = []
        self._answer: A | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            while (message := self._messages.next()) is not None:
                if message.HasField("delta"):
                    self._pieces.append(message.delta)
                    return str(message.delta)
                self._answer = message.answer
            if self._answer is None and not self._messages.closed:
                raise cut_off(self._messages.request_id)
        except VisionError as failure:
            failure.partial_text = self.text
            raise
        raise StopIteration

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


class Comparison(_Stream):
    """What several models say, each as it comes; then how far they agree.

    Iterate over it once. Whoever stops early closes it, best by using it as a context manager. One model's failure is
    the `error` of its row; what fails for all of them is raised.
    """

    def __init__(self, messages: Messages) -> None:
        super().__init__(messages)
        self._agreement: Agreement | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        while (message := self._messages.next()) is not None:
            if not message.HasField("agreement"):
                return row(message)
            self._agreement = message.agreement
        if self._agreement is None and not self._messages.closed:
            raise cut_off(self._messages.request_id)
        raise StopIteration

    @property
    def agreement(self) -> Agreement:
        """How far every two models that answered agree.

        Raises:
            RuntimeError: The comparison was not read to its end.
        """
        if self._agreement is None:
            raise RuntimeError("the comparison was not read to its end, where the agreement comes")
        return self._agreement
