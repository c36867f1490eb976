"""The CPU model that comes with the gateway: takes the query itself, answers in fractions, counts no tokens."""

from __future__ import annotations

import json

from gateway.domain import ImageDetail, ImagePlan
from gateway.errors import UnsupportedByModel
from gateway.pricing import FREE
from gateway.profiles import BoxConvention, Profile

# Longest side in pixels. Detection looks at 300 x 300 and classification at 280 x 280 pixels of the whole picture;
# text must stay legible, and past 2048 pixels recognition gets slower but no better.
_LONGEST_SIDE_PX = {
    ImageDetail.LOW: 640,
    ImageDetail.MEDIUM: 1280,
    ImageDetail.HIGH: 2048,
    ImageDetail.MAX: 4096,
}
# A message is a sentence or two; a longer one is no message of the model's.
_MESSAGE_CHARACTERS = 500


def _plan(width_px: int, height_px: int, detail: ImageDetail, _: int | None = None) -> ImagePlan:
    """Passes images through up to a longest side, which bounds the time they take."""
    scale = min(1.0, _LONGEST_SIDE_PX[detail] / max(width_px, height_px))
    return ImagePlan(max(1, round(width_px * scale)), max(1, round(height_px * scale)), token_count=0)


def _read(text: str) -> str:
    """Gives *text* as it is, or raises `UnsupportedByModel` where it says what the model cannot do."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text
    unsupported = answer.get("unsupported") if isinstance(answer, dict) else None
    if not isinstance(unsupported, dict):
        return text
    message = str(unsupported.get("message") or "the embedded model cannot do what was asked")
    raise UnsupportedByModel(
        message[:_MESSAGE_CHARACTERS], metadata={"unsupported": str(unsupported.get("reason", ""))[:64]}
    )


PROFILE = Profile(
    family="embedded",
    version="1",
    boxes=BoxConvention(order="xyxy", scale=1),
    structured_output=False,
    media_types=frozenset({"image/jpeg", "image/png", "image/webp"}),
    max_images=1,
    context_tokens=0,
    plan=_plan,
    price=lambda _: FREE,
    # Captions and answers may speak of text in the picture.
    details={
        "Caption": ImageDetail.HIGH,
        "OCR": ImageDetail.HIGH,
        "Detect": ImageDetail.MEDIUM,
        "Classify": ImageDetail.LOW,
        "VQA": ImageDetail.HIGH,
        "Prompt": ImageDetail.HIGH,
    },
    takes_query=True,
    read=_read,
)
