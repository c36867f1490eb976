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
_LINE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.2), (0.1, 0.2))


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

    Right answers are equal; wrong ones differ from them and, but for labels, between models. Doubtful ones are all
    doubtful for the same reason, which stands for every other.
    """
    word = "right" if verdict.right else "wrong"
    match rpc:
        case "Detect":
            return json.dumps({"detections": [{"label": word, "box_2d": _box(verdict, profile, plan)}]})
        case "Classify":
            others = ["of no use", "nor this"] if verdict.doubtful else []
            return json.dumps({"labels": [{"label": label} for label in (word, *others)]})
        case "OCR" if profile.takes_query:
            return json.dumps({"lines": [{"text": _said(rpc, verdict, model), "polygon": _LINE, "score": 0.9}]})
        case _ if profile.takes_query:
            return json.dumps({"answer" if rpc == "VQA" else "text": _said(rpc, verdict, model)})
        case _:
            return _said(rpc, verdict, model)


def _said(rpc: str, verdict: Verdict, model: str) -> str:
    if verdict.doubtful:
        return "I cannot read the image."
    if rpc == "VQA":
        return "4" if verdict.right else str(5 + sum(model.encode()) % 1000)
    return "What there is." if verdict.right else f"Something else, says {model}."


def _box(verdict: Verdict, profile: Profile, plan: ImagePlan) -> list[float]:
    near, far = (0.2, 0.4) if verdict.right else (0.6, 0.9)
    if verdict.doubtful:
        near, far = 0.0, 1.0
    scale = profile.boxes.scale
    width, height = (scale, scale) if scale else (plan.width_px, plan.height_px)
    corners = [near * width, near * height, far * width, far * height]
    return corners if profile.boxes.order == "xyxy" else [corners[place] for place in (1, 0, 3, 2)]
