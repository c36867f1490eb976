"""What calls about several tasks or models give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from visiongateway._errors import VisionError, from_status
from visiongateway.v1 import vision_service_pb2 as pb
from visiongateway.v1.call_pb2 import CallInfo, Usage

# The response of any task; `isinstance` tells which.
Answer: TypeAlias = (
    pb.CaptionResponse | pb.OCRResponse | pb.DetectResponse | pb.ClassifyResponse | pb.VQAResponse | pb.PromptResponse
)


@dataclass(frozen=True, slots=True)
class Annotations:
    """The results of several tasks about one image, in the order of the tasks.

    Each is the answer of its task, as its own method would give it, or the error that it would raise. *usage* and
    *cost_nano_usd* are those of all tasks together, failed ones included.
    """

    results: Sequence[Answer | VisionError]
    usage: Usage
    cost_nano_usd: int


@dataclass(frozen=True, slots=True)
class Row:
    """What one model of a comparison said: *answer*, or None and the *error*; *info* tells time and cost of both."""

    model: str
    answer: Answer | None
    error: VisionError | None
    info: CallInfo


def annotated(response: pb.AnnotateResponse, request_id: str) -> Annotations:
    """Reads the results from *response*."""
    return Annotations(
        results=tuple(_result(each, request_id) for each in response.results),
        usage=response.usage,
        cost_nano_usd=response.cost_nano_usd,
    )


def row(message: pb.CompareResponse) -> Row:
    """Reads one model's row from *message*."""
    if not message.HasField("status"):
        return Row(message.model, _answer(message.answer), None, message.info)
    error = from_status(message.status)
    error.model = message.model
    error.request_id = message.info.request_id
    error.cost_nano_usd = message.info.cost_nano_usd
    return Row(message.model, None, error, message.info)


def _result(result: pb.AnnotateResult, request_id: str) -> Answer | VisionError:
    if result.HasField("answer"):
        return _answer(result.answer)
    error = from_status(result.status)
    error.request_id = request_id
    return error


def _answer(answer: pb.TaskAnswer) -> Answer:
    found: Answer = getattr(answer, answer.WhichOneof("answer") or "caption")
    return found
