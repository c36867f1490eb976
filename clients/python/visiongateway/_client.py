"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from visiongateway._channel import channel_options as all_channel_options, channel_target
from visiongateway._errors import decode
from visiongateway._images import ImageSource, load_image
from visiongateway._options import CallDefaults, Options
from visiongateway._requests import (
    CaptionDetailChoice,
    TaskChoice,
    caption_request,
    classify_request,
    detect_request,
    ocr_request,
    quote_request,
    vqa_request,
)
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.vision_service_pb2_grpc import VisionServiceStub

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


class VisionClient:
    """Calls a Vision Gateway. Safe to share between threads; use it as a context manager, or close it.

    Args:
        target: Address as `host:port`, any gRPC target such as `dns:///gateway:50051`, or several `IP:port` addresses.
            Calls are spread over all addresses that a name resolves to or that are listed, and go only to gateways
            whose health service says SERVING.
        credentials: TLS, from `grpc.ssl_channel_credentials()`; plain text when left out.
        metadata: Sent with every call, such as `{"authorization": "Bearer ..."}`. Keys are lower case.
        timeout: Seconds that a call may take when it does not say; there is always a deadline.
        channel_options: More gRPC channel arguments, which win over the client's own. `("grpc.inhibit_health_checking",
            1)` sends calls also to gateways that say NOT_SERVING, to be told in their own words why.

    Raises:
        ValueError: *target* names no address, or several that are not IP addresses of one version.

    A call is tried up to four times within its deadline while the answer is UNAVAILABLE. When no gateway is reachable
    or all say NOT_SERVING, calls fail with `Unavailable` after these tries, about a second, whatever the deadline.
    Every failure of a call is a `VisionError`; whatever is wrong with the arguments themselves is a `TypeError`,
    a `ValueError` or, for files, an `OSError`.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        address, arguments = channel_target(target), all_channel_options(channel_options)
        self._channel = (
            grpc.insecure_channel(address, arguments)
            if credentials is None
            else grpc.secure_channel(address, credentials, arguments)
        )
        self._stub = VisionServiceStub(self._channel)
        self._defaults = CallDefaults(timeout, dict(metadata or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; calls in flight end as `Unavailable`."""
        self._channel.close()

    def caption(
        self,
        image: ImageSource,
        *,
        detail: CaptionDetailChoice = "normal",
        language: str = "",
        **options: Unpack[Options],
    ) -> pb.CaptionResponse:
        """Describes the image in words.

        *language* is a BCP 47 tag such as `de`; empty means English. The answer is in `text`.
        """
        request = caption_request(load_image(image), options, detail, language)
        return self._call(self._stub.Caption, request, options)

    def ocr(
        self,
        image: ImageSource,
        *,
        with_regions: bool = False,
        languages: Iterable[str] = (),
        **options: Unpack[Options],
    ) -> pb.OCRResponse:
        """Reads the text in the image.

        *languages* are BCP 47 tags to expect; none means any. The answer is in `text`, and with *with_regions* also
        line by line in `lines`, with outlines in fractions of the upright image.
        """
        request = ocr_request(load_image(image), options, languages, with_regions=with_regions)
        return self._call(self._stub.OCR, request, options)

    def detect(
        self,
        image: ImageSource,
        labels: Iterable[str] = (),
        *,
        prompt: str = "",
        max_detections: int | None = None,
        **options: Unpack[Options],
    ) -> pb.DetectResponse:
        """Finds the objects that *labels* name, or without labels every object, and their boxes.

        *prompt* says in words what else to mind; *max_detections* is 1 to 1000, and 100 when left out. The answer is
        in `detections`, with boxes in fractions of the upright image.
        """
        request = detect_request(load_image(image), options, labels, prompt, max_detections)
        return self._call(self._stub.Detect, request, options)

    def classify(
        self,
        image: ImageSource,
        labels: Iterable[str] = (),
        *,
        multi_label: bool = False,
        max_labels: int | None = None,
        **options: Unpack[Options],
    ) -> pb.ClassifyResponse:
        """Names what the image shows: by one of *labels*, or without labels in the model's own words.

        With *multi_label* several labels may hold. *max_labels* is 1 to 100; left out, it is 1, or 10 with
        *multi_label*. The answer is in `labels`, the best first.
        """
        request = classify_request(load_image(image), options, labels, max_labels, multi_label=multi_label)
        return self._call(self._stub.Classify, request, options)

    def vqa(
        self,
        image: ImageSource,
        question: str,
        *,
        images: Iterable[ImageSource] = (),
        answer_schema: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> pb.VQAResponse:
        """Answers *question* about the image and, in their order, more *images*.

        The answer is in `answer`; with *answer_schema*, a JSON Schema of an object, also in `structured_answer`.
        """
        request = vqa_request(load_image(image), options, question, map(load_image, images), answer_schema)
        return self._call(self._stub.VQA, request, options)

    def quote(self, task: TaskChoice, image: ImageSource, **arguments: Any) -> pb.QuoteResponse:
        """Tells what a call would cost at each model that may be asked; none is asked.

        *task* names the method that would be called, such as `detect`, and *arguments* are its own, all by keyword. The
        answer is in `candidates`, in the order in which they would be asked.
        """
        request, options = quote_request(task, load_image(image), arguments)
        return self._call(self._stub.Quote, request, options)

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Q, A], request: Q, options: Options) -> A:
        call = self._defaults.call(options)
        try:
            return method(request, timeout=call.timeout, metadata=call.metadata)
        except grpc.RpcError as error:
            raise decode(error, call.request_id) from error
