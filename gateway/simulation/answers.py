"""What simulated calls ask, and what models write: right, wrong, or such that the checks of the task doubt it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.domain import ImagePlan, Query
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask

_LABELS = ("right", "wrong")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer is worth: whether it is *right*, and whether the checks of its task find it *doubtful*."""

    right: bool
    doubtful: bool


def query(task: AnyTask) -> Query:
    """Gives a call of *task*."""
    names = task.request.DESCRIPTOR.fields_by_name
    given: dict[str, Any] = {}
    if "labels" in names:
        given["labels"] = _LABELS
    if "question" in names:
        given["question"] = "How many objects are in the picture?"
    asked: Query = task.query(task.request(**given))
    return asked


def text(rpc: str, verdict: Verdict, model: str, profile: Profile, plan: ImagePlan) -> str:
    """Writes an answer to such a call of *rpc* that is what *verdict* says, in the form of *profile*'s family.

    Right answers are equal; wrong ones differ from them and, but for labels, between models.
    """
    if verdict.doubtful:
        return ""
    word = "right" if verdict.right else "wrong"
    match rpc:
        case "Detect":
            box = _box(verdict.right, profile, plan)
            return json.dumps({"detections": [{"label": word, "box_2d": box}]})
        case "Classify":
            return json.dumps({"labels": [{"label": word}]})
        case "VQA":
            said = "4" if verdict.right else str(5 + sum(model.encode()) % 1000)
            return json.dumps({"answer": said}) if profile.takes_query else said
        case "OCR":
            said = "What is written." if verdict.right else f"Something else, says {model}."
            return json.dumps({"lines": [_line(said)]}) if profile.takes_query else said
        case _:
            said = "What is shown." if verdict.right else f"Something else, says {model}."
            return json.dumps({"text": said}) if profile.takes_query else said


def _box(right: bool, profile: Profile, plan: ImagePlan) -> list[float]:  # noqa: FBT001  one of two
    near, far = (0.2, 0.4) if right else (0.6, 0.9)
    scale = profile.boxes.scale
    if scale is None:
        sides = [plan.width_px, plan.height_px]
        return [round(share * side) for share in (near, far) for side in sides]
    return [share * scale for share in (near, near, far, far)]


def _line(said: str) -> dict[str, object]:
    return {"text": said, "polygon": [[0.1, 0.1], [0.9, 0.1], [0.9, 0.2], [0.1, 0.2]], "score": 0.9}
