"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from visiongateway._answers import Annotations, annotated
from visiongateway._caller import Caller
from visiongateway._images import ImageSource
from visiongateway._options import Options, call_id
from visiongateway._requests import (
    CaptionDetailChoice,
    Task,
    TaskChoice,
    annotate_request,
    caption_fields,
    classify_fields,
    compare_request,
    detect_fields,
    ocr_fields,
    places,
    prompt_fields,
    quote_request,
    vqa_fields,
)
from visiongateway._streams import Comparison, TextStream
from visiongateway.v1 import vision_service_pb2 as pb


class VisionClient(Caller):
    """Calls a Vision Gateway. Safe to share between threads; use it as a context manager, or close it.

    Args:
        target: Address as `host:port`, any gRPC target such as `dns:///gateway:50051`, or several `IP:port` addresses.
            Calls are spread over all addresses that a name resolves to or that are listed, and go only to gateways
            whose health service says SERVING.
        credentials: TLS, from `grpc.ssl_channel_credentials()`; plain text when left out.
        token: API key, or token of an identity provider, sent as `authorization: Bearer ...`. A function is asked for
            it before each call, so that one that expires is renewed in time. Without TLS it can be read on the way.
        metadata: Sent with every call, such as `{"x-tenant": "..."}`. Keys are lower case.
        timeout: Seconds that a call may take when it does not say; there is always a deadline.
        channel_options: More gRPC channel arguments, which win over the client's own. `("grpc.inhibit_health_checking",
            1)` sends calls also to gateways that say NOT_SERVING, to be told in their own words why.
        hold_images: Whether an image that was sent lately is named by its digest instead of being sent again. A gateway
            that no longer has it is sent its bytes at once, within the same deadline.

    Raises:
        ValueError: *target* names no address, or several that are not IP addresses of one version; or *token* is there
            and *metadata* has an `authorization` too.

    A call is tried up to four times within its deadline while the answer is UNAVAILABLE, a stream only until its first
    piece has come. When no gateway is reachable or all say NOT_SERVING, calls fail with `Unavailable` after these
    tries, about a second, whatever the deadline. Every failure of a call is a `VisionError`; whatever is wrong with the
    arguments themselves is a `TypeError`, a `ValueError` or, for files, an `OSError`.
    """

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
        request = pb.CaptionRequest(**caption_fields(options, detail, language))
        return self._call(self._stub.Caption, request, options, places(request, image))

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
        request = pb.OCRRequest(**ocr_fields(options, languages, with_regions=with_regions))
        return self._call(self._stub.OCR, request, options, places(request, image))

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
        request = pb.DetectRequest(**detect_fields(options, labels, prompt, max_detections))
        return self._call(self._stub.Detect, request, options, places(request, image))

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
        request = pb.ClassifyRequest(**classify_fields(options, labels, max_labels, multi_label=multi_label))
        return self._call(self._stub.Classify, request, options, places(request, image))

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
        request = pb.VQARequest(**vqa_fields(options, question, answer_schema))
        return self._call(self._stub.VQA, request, options, places(request, image, images))

    def prompt(
        self,
        image: ImageSource,
        prompt: str,
        *,
        system: str = "",
        images: Iterable[ImageSource] = (),
        response_schema: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> pb.PromptResponse:
        """Follows an open *prompt* about the image and, in their order, more *images*.

        *system* is what the model is told before everything else. The answer is in `text`; with *response_schema*, a
        JSON Schema of an object, also in `structured`.
        """
        request = pb.PromptRequest(**prompt_fields(options, prompt, system, response_schema))
        return self._call(self._stub.Prompt, request, options, places(request, image, images))

    def stream_caption(
        self,
        image: ImageSource,
        *,
        detail: CaptionDetailChoice = "normal",
        language: str = "",
        **options: Unpack[Options],
    ) -> TextStream[pb.CaptionResponse]:
        """Describes the image, word by word; otherwise like `caption`.

        >>> with client.stream_caption("photo.jpg") as words:
        ...     for word in words:
        ...         print(word, end="")
        A cat sleeps on a red sofa.
        >>> words.answer.info.model
        'gemma'
        """
        request = pb.StreamCaptionRequest(**caption_fields(options, detail, language))
        return TextStream(self._stream(self._stub.StreamCaption, request, options, places(request, image)))

    def stream_ocr(
        self,
        image: ImageSource,
        *,
        with_regions: bool = False,
        languages: Iterable[str] = (),
        **options: Unpack[Options],
    ) -> TextStream[pb.OCRResponse]:
        """Reads the text in the image as the model does; otherwise like `ocr`.

        With *with_regions* the text comes whole.
        """
        request = pb.StreamOCRRequest(**ocr_fields(options, languages, with_regions=with_regions))
        return TextStream(self._stream(self._stub.StreamOCR, request, options, places(request, image)))

    def stream_vqa(
        self,
        image: ImageSource,
        question: str,
        *,
        images: Iterable[ImageSource] = (),
        answer_schema: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> TextStream[pb.VQAResponse]:
        """Answers *question*, word by word; otherwise like `vqa`.

        With *answer_schema* the text is the JSON as it is written.
        """
        request = pb.StreamVQARequest(**vqa_fields(options, question, answer_schema))
        return TextStream(self._stream(self._stub.StreamVQA, request, options, places(request, image, images)))

    def stream_prompt(
        self,
        image: ImageSource,
        prompt: str,
        *,
        system: str = "",
        images: Iterable[ImageSource] = (),
        response_schema: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> TextStream[pb.PromptResponse]:
        """Follows *prompt*, word by word; otherwise like `prompt`.

        With *response_schema* the text is the JSON as it is written.
        """
        request = pb.StreamPromptRequest(**prompt_fields(options, prompt, system, response_schema))
        return TextStream(self._stream(self._stub.StreamPrompt, request, options, places(request, image, images)))

    def annotate(self, image: ImageSource, tasks: Iterable[Task], **options: Unpack[Options]) -> Annotations:
        """Does several *tasks* about the image, which is sent once.

        Each is the name of a method, or a pair of it and its arguments, options among them, which win over *options*.
        The results are in `results`, in the order of *tasks*: each an answer, or the `VisionError` of this task alone.

        >>> done = client.annotate("photo.jpg", ["caption", ("detect", {"labels": ["cat"]})])
        >>> for result in done.results:
        ...     print(type(result).__name__)
        CaptionResponse
        DetectResponse
        """
        request, images = annotate_request(image, tasks, options)
        request_id = call_id(options)
        options["request_id"] = request_id
        return annotated(self._call(self._stub.Annotate, request, options, images), request_id)

    def compare(self, task: TaskChoice, image: ImageSource, models: Iterable[str] = (), **arguments: Any) -> Comparison:
        """Asks several *models* the same at once; none named means all that can.

        *task* names the method that would be called, such as `detect`, and *arguments* are its own, all by keyword.

        >>> with client.compare("vqa", "photo.jpg", question="How many cats?") as rows:
        ...     for row in rows:
        ...         print(row.model, row.error or row.answer.answer)
        gemma One.
        gpt-5.5 REFUSED: No.
        >>> len(rows.agreement.pairs)
        0
        """
        request, options, images = compare_request(task, image, models, arguments)
        return Comparison(self._stream(self._stub.Compare, request, options, images))

    def list_models(self, *, timeout: float | None = None, request_id: str | None = None) -> pb.ListModelsResponse:
        """Lists the models and routes of the gateway, what they can do, cost and are up to."""
        return self._call(self._stub.ListModels, pb.ListModelsRequest(), {"timeout": timeout, "request_id": request_id})

    def quote(self, task: TaskChoice, image: ImageSource, **arguments: Any) -> pb.QuoteResponse:
        """Tells what a call would cost at each model that may be asked; none is asked.

        *task* names the method that would be called, such as `detect`, and *arguments* are its own, all by keyword. The
        answer is in `candidates`, in the order in which they would be asked.
        """
        request, options, images = quote_request(task, image, arguments)
        return self._call(self._stub.Quote, request, options, images)
