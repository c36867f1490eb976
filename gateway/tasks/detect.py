"""Finds objects and their boxes in an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gateway.domain import ImagePlan, Query
from gateway.errors import Violation
from gateway.profiles import Profile
from gateway.tasks import Task, Wording, _agreement as agreement, _answers as answers, _checks as checks
from gateway.tasks._agreement import Match
from gateway.tasks._boxes import Box, box
from gateway.tasks._doubts import Doubt
from gateway.tasks._labels import ClosedSet
from gateway.tasks._records import score, string, surest_first
from gateway.tasks._wording import box_schema, list_of, quoted
from visiongateway.v1 import geometry_pb2, vision_service_pb2 as pb

_MOST_LABELS = 100
_PROMPT_CHARACTERS = 4000
_MOST_DETECTIONS = 1000
_DEFAULT_DETECTIONS = 100
# One detection in indented JSON is up to about 48 tokens, for a label of a few words.
_TOKENS_PER_DETECTION = 48
_MOST_OUTPUT_TOKENS = 32_768
_TEMPLATE = "Find {objects} in the image.{note} {form}"
_LIST_KEYS = ("detections", "objects", "results", "predictions", "boxes", "bounding_boxes")
# Boxes are at the same place if they are to the hundredth of the picture.
_PLACES = 2
_WHOLE = (0.0, 0.0, 1.0, 1.0)
# Two kinds of object may share a box, a person and a face; more do not.
_MANY = 3
_LABEL_KEYS = ("label", "class", "class_name", "name", "category", "object")


@dataclass(frozen=True, slots=True)
class DetectQuery(Query):
    """Asks for boxes around objects of *labels*, or of every kind; *prompt* is what else to mind, in words."""

    rpc: ClassVar[str] = "Detect"
    labels: tuple[str, ...]
    prompt: str
    max_detections: int


@dataclass(frozen=True, slots=True)
class _Detection:
    label: str
    box: Box
    score: float | None


class Detect(Task[pb.DetectRequest, DetectQuery, pb.DetectResponse]):
    """Asks for a JSON list of labelled boxes. Its template has `{objects}`, `{note}` and `{form}`."""

    rpc = "Detect"
    version = "1"
    request = pb.DetectRequest
    response = pb.DetectResponse

    def violations(self, request: pb.DetectRequest) -> Iterator[Violation]:
        yield from checks.labels(request.labels, _MOST_LABELS, distinct=False)
        yield from checks.text("prompt", request.prompt, _PROMPT_CHARACTERS)
        if request.HasField("max_detections"):
            yield from checks.at_most("max_detections", request.max_detections, _MOST_DETECTIONS)

    def query(self, request: pb.DetectRequest) -> DetectQuery:
        return DetectQuery(
            labels=tuple(dict.fromkeys(request.labels)),
            prompt=request.prompt.strip(),
            max_detections=request.max_detections if request.HasField("max_detections") else _DEFAULT_DETECTIONS,
        )

    def wording(self, query: DetectQuery, profile: Profile, plan: ImagePlan) -> Wording:
        objects, exactly = "every object", ""
        if query.labels:
            objects, exactly = f"every instance of {quoted(query.labels, profile)}", "labels exactly as given, "
        form = (
            f'Answer with JSON alone: {{"detections":[{{"label":"...","box_2d":{profile.boxes.corners}}}]}}, one entry '
            f"per instance, at most {query.max_detections}, {exactly}boxes tight and in {profile.boxes.unit(plan)}; "
            'if there is none, {"detections":[]}.'
        )
        return Wording(
            user=profile.wording.get(self.rpc, _TEMPLATE).format(
                objects=objects,
                note=f" Only those that fit this: {quoted(query.prompt, profile)}." if query.prompt else "",
                form=form,
            ),
            max_output_tokens=min(256 + _TOKENS_PER_DETECTION * query.max_detections, _MOST_OUTPUT_TOKENS),
            # Labels stay out of the schema: providers compile each new one, which delays its first call by seconds.
            schema=list_of("detections", label={"type": "string"}, box_2d=box_schema(profile)),
        )

    def parse(self, text: str, query: DetectQuery, profile: Profile, plan: ImagePlan) -> pb.DetectResponse:
        records = answers.elements(text, _LIST_KEYS, "detections")
        allowed = ClosedSet(query.labels) if query.labels else None
        found: dict[tuple[str, Box], _Detection] = {}
        for record in records:
            if not isinstance(record, dict):
                continue
            label = _label(record, allowed, query.labels)
            corners = box(record, profile.boxes, plan)
            if label and corners:
                found.setdefault((label, corners), _Detection(label, corners, score(record)))
        if records and not found:
            # What the model saw, it saw wrongly named or placed: that is not the same as nothing.
            raise answers.unusable("detections")
        detections = surest_first(found.values())
        return pb.DetectResponse(detections=map(_message, detections[: query.max_detections]))

    def doubts(self, response: pb.DetectResponse, query: DetectQuery, category: str) -> Iterator[Doubt]:
        # Nothing found is an answer, and often the right one.
        if not response.detections:
            return
        found = [(each.label, _place(each.box)) for each in response.detections]
        if 2 * (len(found) - len(set(found))) >= len(found):
            yield Doubt.REPEATED_BOXES
        places = {place for _, place in found}
        if len(found) >= _MANY and len(places) == 1:
            yield Doubt.SAME_BOX
        if places == {_WHOLE}:
            yield Doubt.WHOLE_PICTURE

    def left_out(self, text: str, response: pb.DetectResponse, query: DetectQuery) -> Iterator[Doubt]:
        allowed = ClosedSet(query.labels) if query.labels else None
        records = [record for record in answers.elements(text, _LIST_KEYS, "detections") if isinstance(record, dict)]
        named = [record for record in records if _label(record, allowed, query.labels)]
        distinct = {repr(record) for record in named}
        if 2 * len(named) < len(records):
            yield Doubt.UNKNOWN_LABELS
        if 2 * len(distinct) < len(named):
            yield Doubt.REPEATED_BOXES
        if 2 * len(response.detections) < min(len(distinct), query.max_detections):
            yield Doubt.USELESS_BOXES

    def agreement(self, first: pb.DetectResponse, second: pb.DetectResponse, query: DetectQuery) -> float:
        return agreement.of_boxes(_labelled(first, query), _labelled(second, query))

    def matches(self, first: pb.DetectResponse, second: pb.DetectResponse, query: DetectQuery) -> list[Match]:
        return agreement.matches(_labelled(first, query), _labelled(second, query))


def _label(record: dict[str, object], allowed: ClosedSet | None, labels: tuple[str, ...]) -> str | None:
    words = string(record, _LABEL_KEYS)
    if words is None:
        # Asked for one kind of object, models may leave its name out.
        return labels[0] if len(labels) == 1 else None
    return allowed.find(words) if allowed else words.strip()


def _place(box: geometry_pb2.BoundingBox) -> Box:
    left, top, right, bottom = (round(side, _PLACES) for side in (box.x_min, box.y_min, box.x_max, box.y_max))
    return left, top, right, bottom


def _labelled(response: pb.DetectResponse, query: DetectQuery) -> list[tuple[str, Box]]:
    """Lists the boxes with their labels, which differ in case only where the caller's own do."""
    return [
        (
            each.label if query.labels else each.label.casefold(),
            (each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max),
        )
        for each in response.detections
    ]


def _message(detection: _Detection) -> pb.Detection:
    left, top, right, bottom = detection.box
    return pb.Detection(
        label=detection.label,
        box=geometry_pb2.BoundingBox(x_min=left, y_min=top, x_max=right, y_max=bottom),
        score=detection.score,
    )


TASK = Detect()
