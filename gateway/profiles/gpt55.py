"""GPT-5.5 of OpenAI: boxes in pixels of the image sent, image tokens by patches of 32 x 32 pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.domain import ImageDetail, ImagePlan
from gateway.pricing import listed
from gateway.profiles import BoxConvention, Profile

_PATCH_PX = 32
# Tokens per patch, as OpenAI's guide "Images and vision" gives them for this model, in fifths.
_FIFTHS_OF_TOKEN_PER_PATCH = 6


@dataclass(frozen=True, slots=True)
class _Limit:
    """Provider's `detail`, and the largest image that is not shrunk at it: longest side in pixels, and patches."""

    detail: str
    side_px: int
    patches: int


# Limits of `low`, `high` and `original` are OpenAI's own ("Images and vision"): an image within them is seen as it
# is sent, so its pixels are the ones the model counts boxes in. MEDIUM is ours: `high`, of an image that we shrink
# to the patches of 1024 x 1024, for at most 1,229 tokens where HIGH takes 3,000.
_LIMITS = {
    ImageDetail.LOW: _Limit("low", 512, 256),
    ImageDetail.MEDIUM: _Limit("high", 2048, 1024),
    ImageDetail.HIGH: _Limit("high", 2048, 2500),
    ImageDetail.MAX: _Limit("original", 6000, 10_000),
}


def _plan(width_px: int, height_px: int, detail: ImageDetail, max_tokens: int | None = None) -> ImagePlan:
    """Shrinks to the limit as OpenAI would; tokens are 1.2 for each patch, rounded up."""
    limit = _LIMITS[detail]
    width, height = _within_side(width_px, height_px, limit.side_px)
    patches = limit.patches if max_tokens is None else min(limit.patches, max_tokens * 5 // _FIFTHS_OF_TOKEN_PER_PATCH)
    if _patches(width, height) > patches:
        width, height = _within_patches(width, height, patches)
    token_count = -(-_patches(width, height) * _FIFTHS_OF_TOKEN_PER_PATCH // 5)
    return ImagePlan(width, height, token_count, limit.detail)


def _patches(width: int, height: int) -> int:
    return math.ceil(width / _PATCH_PX) * math.ceil(height / _PATCH_PX)


def _within_side(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _within_patches(width: int, height: int, patches: int) -> tuple[int, int]:
    scale = math.sqrt(_PATCH_PX**2 * patches / (width * height))
    columns, rows = width * scale / _PATCH_PX, height * scale / _PATCH_PX
    # One side becomes whole patches and the other keeps the aspect ratio, so that rounding up cannot pass the limit.
    scale *= min(math.floor(columns) / columns, math.floor(rows) / rows)
    return math.floor(width * scale), math.floor(height * scale)


PROFILE = Profile(
    family="gpt55",
    version="1",
    boxes=BoxConvention(order="xyxy", scale=None),
    structured_output=True,
    shows_schema=True,
    media_types=frozenset({"image/jpeg", "image/png", "image/webp"}),
    max_images=500,
    context_tokens=1_050_000,
    plan=_plan,
    price=lambda model: listed(model, "openai"),
    # An image is most of what a call costs: $0.0015 at LOW, up to $0.015 at HIGH, up to $0.06 at MAX.
    details={
        "Caption": ImageDetail.LOW,
        "OCR": ImageDetail.HIGH,
        "Detect": ImageDetail.HIGH,
        "Classify": ImageDetail.LOW,
        "VQA": ImageDetail.HIGH,
        "Prompt": ImageDetail.HIGH,
    },
    # Share of right answers in Roboflow's comparison of 67 prompts (visioncheckup.com).
    quality={
        "overall": 0.7761,
        "defect": 0.867,
        "document": 0.889,
        "counting": 0.30,
        "object": 0.929,
        "spatial": 0.789,
    },
)
