"""Builds the request of each RPC from plain Python values; both clients share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from google.protobuf.struct_pb2 import Struct

from visiongateway._images import load_image
from visiongateway._options import Options, call_options, enum_value
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.image_pb2 import Image

TaskChoice: TypeAlias = Literal["caption", "ocr", "detect", "classify", "vqa"]
CaptionDetailChoice: TypeAlias = Literal["short", "normal", "long"] | pb.CaptionDetail.ValueType


def caption_request(image: Image, options: Options, detail: CaptionDetailChoice, language: str) -> pb.CaptionRequest:
    """Makes the request of `Caption`."""
    return pb.CaptionRequest(
        image=image,
        options=call_options(options),
        detail=enum_value(pb.CaptionRequest.DESCRIPTOR, "detail", detail),
        language=language,
    )


def ocr_request(image: Image, options: Options, languages: Iterable[str], *, with_regions: bool) -> pb.OCRRequest:
    """Makes the request of `OCR`."""
    return pb.OCRRequest(
        image=image,
        options=call_options(options),
        with_regions=with_regions,
        languages=_several("languages", languages),
    )


def detect_request(
    image: Image, options: Options, labels: Iterable[str], prompt: str, max_detections: int | None
) -> pb.DetectRequest:
    """Makes the request of `Detect`."""
    return pb.DetectRequest(
        image=image,
        options=call_options(options),
        labels=_several("labels", labels),
        prompt=prompt,
        max_detections=max_detections,
    )


def classify_request(
    image: Image, options: Options, labels: Iterable[str], max_labels: int | None, *, multi_label: bool
) -> pb.ClassifyRequest:
    """Makes the request of `Classify`."""
    return pb.ClassifyRequest(
        image=image,
        options=call_options(options),
        labels=_several("labels", labels),
        multi_label=multi_label,
        max_labels=max_labels,
    )


def vqa_request(
    image: Image, options: Options, question: str, images: Iterable[Image], answer_schema: Mapping[str, Any] | None
) -> pb.VQARequest:
    """Makes the request of `VQA`."""
    request = pb.VQARequest(image=image, options=call_options(options), question=question, images=images)
    if answer_schema is not None:
        schema = Struct()
        schema.update(answer_schema)
        request.answer_schema.CopyFrom(schema)
    return request


def quote_request(task: TaskChoice, image: Image, arguments: Mapping[str, Any]) -> tuple[pb.QuoteRequest, Options]:
    """Makes the request of `Quote` from what the call itself would take; gives the options among *arguments* too.

    Raises:
        ValueError: There is no such task.
        TypeError: The task takes no such argument, or lacks one.
    """
    if task not in _TASKS:
        raise ValueError(f"task is one of {', '.join(_TASKS)}; not {task!r}")
    build, defaults = _TASKS[task]
    options: Any = {name: value for name, value in arguments.items() if name in Options.__annotations__}
    own = {name: value for name, value in arguments.items() if name not in Options.__annotations__}
    if "images" in own:
        own["images"] = [load_image(each) for each in own["images"]]
    return pb.QuoteRequest(**{task: build(image, options, **{**defaults, **own})}), options


_TASKS: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
    "caption": (caption_request, {"detail": "normal", "language": ""}),
    "ocr": (ocr_request, {"languages": (), "with_regions": False}),
    "detect": (detect_request, {"labels": (), "prompt": "", "max_detections": None}),
    "classify": (classify_request, {"labels": (), "max_labels": None, "multi_label": False}),
    "vqa": (vqa_request, {"images": (), "answer_schema": None}),
}


def _several(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} is several words, such as [{values!r}], not one")
    return list(values)
