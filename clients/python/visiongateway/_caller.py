"""What the synchronous client has besides the RPCs: its connections, its calls, and what it adds to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from visiongateway._channel import channel_options as all_channel_options, channel_target
from visiongateway._errors import decode
from visiongateway._images import load_image
from visiongateway._options import CallDefaults, Options
from visiongateway._requests import Places
from visiongateway._sent import SentImages
from visiongateway._streams import Messages
from visiongateway.v1.vision_service_pb2_grpc import VisionServiceStub

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


class Caller:
    """Makes calls over one channel."""

    def __init__(  # noqa: PLR0913  one for each argument of a client, by keyword
        self,
        target: str | Sequence[str],
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Callable[[], str] | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        channel_options: Sequence[tuple[str, str | int]] = (),
        hold_images: bool = True,
    ) -> None:
        self._defaults = CallDefaults(timeout, dict(metadata or {}), token)
        address, arguments = channel_target(target), all_channel_options(channel_options)
        self._channel = (
            grpc.insecure_channel(address, arguments)
            if credentials is None
            else grpc.secure_channel(address, credentials, arguments)
        )
        self._stub = VisionServiceStub(self._channel)
        self._sent = SentImages(hold_images=hold_images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; calls in flight end as `Unavailable`."""
        self._channel.close()

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Q, A], request: Q, options: Options, images: Places = ()) -> A:
        _fill(images)
        call = self._defaults.call(options)
        sending = self._sent.sending(request)
        while True:
            try:
                answer = method(request, timeout=call.time_left(), metadata=call.metadata)
            except grpc.RpcError as error:
                failure = decode(error, call.request_id)
                if not sending.again(failure):
                    raise failure from error
            else:
                sending.answered()
                return answer

    def _stream(
        self, method: grpc.UnaryStreamMultiCallable[Q, Any], request: Q, options: Options, images: Places
    ) -> Messages:
        _fill(images)
        return Messages(
            lambda call: method(request, timeout=call.time_left(), metadata=call.metadata),
            self._defaults.call(options),
            self._sent.sending(request),
        )


def _fill(images: Places) -> None:
    for place, source in images:
        place.CopyFrom(load_image(source))
