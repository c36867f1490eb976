"""The asyncio client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from visiongateway._channel import channel_options as all_channel_options, channel_target
from visiongateway._errors import decode
from visiongateway._images import ImageSource, load_image_async
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


class AsyncVisionClient:
    """Calls a Vision Gateway from asyncio.

    Make it where the event loop runs; use it as an async context manager, or close it.
    Arguments and failures are those of `VisionClient`, whose twin it is.
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
            grpc.aio.insecure_channel(address, arguments)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, arguments)
        )
        self._stub = VisionServiceStub(self._channel)
        self._defaults = CallDefaults(timeout, dict(metadata or {}))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; calls in flight end, cancelled."""
        await self._channel.close()

    async def caption(
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
        request = caption_request(await load_image_async(image), options, detail, language)
        return await self._call(self._stub.Caption, request, options)

    async def ocr(
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
        request = ocr_request(await load_image_async(image), options, languages, with_regions=with_regions)
        return await self._call(self._stub.OCR, request, options)

    async def detect(
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
        request = detect_request(await load_image_async(image), options, labels, prompt, max_detections)
        return await self._call(self._stub.Detect, request, options)

    async def classify(
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
        request = classify_request(await load_image_async(image), options, labels, max_labels, multi_label=multi_label)
        return await self._call(self._stub.Classify, request, options)

    async def vqa(
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
        request = vqa_request(
            await load_image_async(image), options, question, [await load_image_async(i) for i in images], answer_schema
        )
        return await self._call(self._stub.VQA, request, options)

    async def quote(self, task: TaskChoice, image: ImageSource, **arguments: Any) -> pb.QuoteResponse:
        """Tells what a call would cost at each model that may be asked; none is asked.

        *task* names the method that would be called, such as `detect`, and *arguments* are its own, all by keyword. The
        answer is in `candidates`, in the order in which they would be asked.
        """
        request, options = quote_request(task, await load_image_async(image), arguments)
        return await self._call(self._stub.Quote, request, options)

    async def _call(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, options: Options) -> A:
        call = self._defaults.call(options)
        try:
            return await method(request, timeout=call.timeout, metadata=call.metadata)
        except grpc.aio.AioRpcError as error:
            raise decode(error, call.request_id) from error
