"""Builds the request of each RPC from plain Python values; both clients share it.

Requests are made before their images are read, so that wrong arguments are told first: each has `Places` for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, Literal, TypeAlias

from google.protobuf.struct_pb2 import Struct

from visiongateway._images import ImageSource
from visiongateway._options import Options, call_options, enum_value
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.image_pb2 import Image

TaskChoice: TypeAlias = Literal["caption", "ocr", "detect", "classify", "vqa", "prompt"]
CaptionDetailChoice: TypeAlias = Literal["short", "normal", "long"] | pb.CaptionDetail.ValueType
# A task by its name, or with the arguments of its method too: `("detect", {"labels": ["cat"]})`.
Task: TypeAlias = TaskChoice | tuple[TaskChoice, Mapping[str, Any]]
# The images of a request: where each goes, and what it is made of.
Places: TypeAlias = Sequence[tuple[Image, ImageSource]]

_OF_THE_WHOLE_CALL = ("timeout", "request_id")


def caption_fields(options: Options, detail: CaptionDetailChoice, language: str) -> dict[str, Any]:
    """Gives the fields of `CaptionRequest` but its image."""
    return {
        "options": call_options(options),
        "detail": enum_value(pb.CaptionRequest.DESCRIPTOR, "detail", detail),
        "language": language,
    }


def ocr_fields(options: Options, languages: Iterable[str], *, with_regions: bool) -> dict[str, Any]:
    """Gives the fields of `OCRRequest` but its image."""
    return {
        "options": call_options(options),
        "with_regions": with_regions,
        "languages": _several("languages", languages),
    }


def detect_fields(options: Options, labels: Iterable[str], prompt: str, max_detections: int | None) -> dict[str, Any]:
    """Gives the fields of `DetectRequest` but its image."""
    return {
        "options": call_options(options),
        "labels": _several("labels", labels),
        "prompt": prompt,
        "max_detections": max_detections,
    }


def classify_fields(
    options: Options, labels: Iterable[str], max_labels: int | None, *, multi_label: bool
) -> dict[str, Any]:
    """Gives the fields of `ClassifyRequest` but its image."""
    return {
        "options": call_options(options),
        "labels": _several("labels", labels),
        "multi_label": multi_label,
        "max_labels": max_labels,
    }


def vqa_fields(options: Options, question: str, answer_schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Gives the fields of `VQARequest` but its images."""
    return {"options": call_options(options), "question": question, "answer_schema": _struct(answer_schema)}


def prompt_fields(
    options: Options, prompt: str, system: str, response_schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Gives the fields of `PromptRequest` but its images."""
    return {
        "options": call_options(options),
        "prompt": prompt,
        "system": system,
        "response_schema": _struct(response_schema),
    }


def places(request: Any, image: ImageSource, images: Iterable[ImageSource] = ()) -> Places:
    """Tells where in *request* its image goes, and more *images* where it takes some."""
    return [(request.image, image), *((request.images.add(), each) for each in images)]


def quote_request(
    task: TaskChoice, image: ImageSource, arguments: Mapping[str, Any]
) -> tuple[pb.QuoteRequest, Options, Places]:
    """Makes the request of `Quote` from what the call itself would take; gives the options among *arguments* too.

    Raises:
        ValueError: There is no such task.
        TypeError: The task takes no such argument, or lacks one.
    """
    inner, more, options = _task(task, arguments)
    request = pb.QuoteRequest(**inner)
    return request, options, places(getattr(request, task), image, more)


def compare_request(
    task: TaskChoice, image: ImageSource, models: Iterable[str], arguments: Mapping[str, Any]
) -> tuple[pb.CompareRequest, Options, Places]:
    """Makes the request of `Compare`; otherwise like `quote_request`."""
    inner, more, options = _task(task, arguments)
    request = pb.CompareRequest(models=_several("models", models), **inner)
    return request, options, places(getattr(request, task), image, more)


def annotate_request(image: ImageSource, tasks: Iterable[Task], options: Options) -> tuple[pb.AnnotateRequest, Places]:
    """Makes the request of `Annotate`; raises like `quote_request`."""
    if isinstance(tasks, str):
        raise TypeError(f"tasks are several, such as [{tasks!r}], not one")
    request = pb.AnnotateRequest(options=call_options(options))
    found = [*places(request, image)]
    for each in tasks:
        name, arguments = (each, {}) if isinstance(each, str) else each
        for argument in _OF_THE_WHOLE_CALL:
            if argument in arguments:
                raise TypeError(f"{argument} is one of the whole call, not of its task {name}")
        fields, more, _ = _task(name, arguments)
        inner: Any = getattr(request.tasks.add(**fields), name)
        found += ((inner.images.add(), image) for image in more)
    return request, found


def _task(task: TaskChoice, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[ImageSource], Options]:
    """Gives the field with the task's request, more images that it is about, and its options."""
    if task not in _TASKS:
        raise ValueError(f"task is one of {', '.join(_TASKS)}; not {task!r}")
    request, fields, defaults = _TASKS[task]
    options: Any = {name: value for name, value in arguments.items() if name in Options.__annotations__}
    own = {name: value for name, value in arguments.items() if name not in Options.__annotations__}
    images = list(own.pop("images", ())) if task in _WITH_IMAGES else []
    taken = [name for name in signature(fields).parameters if name != "options"]
    if unknown := own.keys() - set(taken):
        raise TypeError(f"{task} has no {', '.join(sorted(unknown))}; besides options it has {', '.join(taken)}")
    if missing := [name for name in taken if name not in {**defaults, **own}]:
        raise TypeError(f"{task} needs {', '.join(missing)}")
    return {task: request(**fields(options, **{**defaults, **own}))}, images, options


_WITH_IMAGES = frozenset({"vqa", "prompt"})
_TASKS: Mapping[str, tuple[Callable[..., Any], Callable[..., dict[str, Any]], Mapping[str, Any]]] = {
    "caption": (pb.CaptionRequest, caption_fields, {"detail": "normal", "language": ""}),
    "ocr": (pb.OCRRequest, ocr_fields, {"languages": (), "with_regions": False}),
    "detect": (pb.DetectRequest, detect_fields, {"labels": (), "prompt": "", "max_detections": None}),
    "classify": (pb.ClassifyRequest, classify_fields, {"labels": (), "max_labels": None, "multi_label": False}),
    "vqa": (pb.VQARequest, vqa_fields, {"answer_schema": None}),
    "prompt": (pb.PromptRequest, prompt_fields, {"system": "", "response_schema": None}),
}


def _several(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} is several words, such as [{values!r}], not one")
    return list(values)


def _struct(value: Mapping[str, Any] | None) -> Struct | None:
    if value is None:
        return None
    struct = Struct()
    struct.update(value)
    return struct
