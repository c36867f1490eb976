"""Gemma 4: boxes on a grid of 1000, y before x; an image costs what its budget of soft tokens and its shape say."""

from __future__ import annotations

import math
import re

from gateway.domain import ImageDetail, ImagePlan
from gateway.errors import InvalidImage, UnsupportedByModel
from gateway.pricing import per_million
from gateway.profiles import BoxConvention, Profile, Sampling

# One soft token sees 3 x 3 patches of 16 x 16 pixels.
_CELL_PX = 48
# `<|image>` and `<image|>` around the soft tokens.
_MARKS = 2
# All that the model has; 280 is its own default. 70, meant for frames of video, serves callers who bound the tokens.
_ALL_BUDGETS = (1120, 560, 280, 140, 70)
_BUDGETS = {
    ImageDetail.LOW: 140,
    ImageDetail.MEDIUM: 280,
    ImageDetail.HIGH: 560,
    ImageDetail.MAX: 1120,
}


def _plan(width_px: int, height_px: int, detail: ImageDetail, max_tokens: int | None = None) -> ImagePlan:
    """Takes the budget of the detail, or the largest below it that *max_tokens* allows."""
    if max_tokens is None:
        return _within(width_px, height_px, _BUDGETS[detail])
    for budget in _ALL_BUDGETS:
        if budget <= _BUDGETS[detail]:
            plan = _within(width_px, height_px, budget)
            if plan.token_count <= max_tokens:
                return plan
    raise UnsupportedByModel(
        f"at the least an image costs {plan.token_count} tokens, and max_image_tokens is {max_tokens}",
        metadata={"limit": "max_image_tokens", "least": str(plan.token_count)},
    )


def _within(width_px: int, height_px: int, budget: int) -> ImagePlan:
    """Shrinks to the pixels that the budget can use; smaller images are enlarged by the model, which costs the same.

    Raises `InvalidImage` when the longer side is so long that the shorter one is not left a single cell.
    """
    columns, rows = _grid(width_px, height_px, budget)
    if not columns or not rows:
        error = InvalidImage(
            f"one side is more than about {budget} times the other; the model would see a stripe",
            limit="aspect_ratio",
        )
        error.elsewhere = True
        raise error
    pixels = budget * _CELL_PX**2
    if width_px * height_px > pixels:
        width, height = columns * _CELL_PX, rows * _CELL_PX
        if _grid(width, height, budget) != (columns, rows):
            # Shapes far from a whole grid: the model would stretch that size once more, so it gets the picture's own.
            scale = math.sqrt(pixels / (width_px * height_px))
            width, height = math.ceil(width_px * scale), math.ceil(height_px * scale)
            columns, rows = _grid(width, height, budget)
        width_px, height_px = width, height
    return ImagePlan(width_px, height_px, columns * rows + _MARKS, str(budget))


def _grid(width: int, height: int, budget: int) -> tuple[int, int]:
    # The rule, and its order of rounding, of `get_aspect_ratio_preserving_size` in transformers' Gemma 4 processor.
    factor = math.sqrt(budget * _CELL_PX**2 / (height * width))
    return math.floor(factor * width / _CELL_PX), math.floor(factor * height / _CELL_PX)


# Control tokens as of ai.google.dev/gemma/docs/core/prompt-formatting-gemma4, and those of its vocabulary.
_CONTROL = re.compile(r"<(?=\|)|(?<=\|)>|<(?=/?(?:bos|eos|pad|unk|mask|(?:start|end)_of_\w+|unused\d+)>)")
_THOUGHT = re.compile(r"<\|channel>thought\b.*?(?:<channel\|>|\Z)", re.DOTALL)
_END = re.compile(r"<turn\|>|<\|tool_response>|<eos>")
_START = "<|turn>model\n"
_LONGEST_TOKEN = max(map(len, (_START, "<|channel>thought\n", "<|tool_response>")))


def _escape(text: str) -> str:
    """Parts the brackets of anything that the tokenizer could take for a control token from what is between them."""
    return _CONTROL.sub(lambda bracket: f"{bracket[0]} " if bracket[0] == "<" else f" {bracket[0]}", text)


def _read(text: str) -> str:
    """Leaves out thoughts, and what stands behind the end of the model's turn."""
    answer = _THOUGHT.sub("", text.removeprefix(_START))
    return _END.split(answer, maxsplit=1)[0]


class _Streamed:
    """Leaves out the same of an answer that comes in pieces; what may yet turn out to be a control token waits."""

    def __init__(self) -> None:
        self._raw = ""
        self._given = 0

    def __call__(self, piece: str) -> str:
        self._raw += piece
        bracket = self._raw.rfind("<", -_LONGEST_TOKEN)
        sure = self._raw if bracket < 0 or ">" in self._raw[bracket:] else self._raw[:bracket]
        answer = _read(sure) if "<" in self._raw else sure
        new, self._given = answer[self._given :], max(self._given, len(answer))
        return new


# The settings that Google publishes with the model, for free text; where one answer is right, the likeliest.
_FREE = Sampling(temperature=1.0, top_p=0.95, top_k=64)
_GREEDY = Sampling(temperature=0.0, top_k=1)

PROFILE = Profile(
    family="gemma4",
    version="1",
    boxes=BoxConvention(order="yxyx", scale=1000),
    # Best effort: an engine without guided decoding answers in the form that the wording asks for.
    structured_output=True,
    media_types=frozenset({"image/jpeg", "image/png", "image/webp"}),
    max_images=8,
    context_tokens=262_144,
    plan=_plan,
    # What Roboflow's comparison names for the model hosted; on hardware of one's own it stands for what that costs.
    price=lambda _: per_million("0.060", "0.330"),
    # The model card: low budgets for captions and classes, high ones for text. VQA and Prompt have the model's own
    # default, at which its `quality` was measured.
    details={
        "Caption": ImageDetail.LOW,
        "OCR": ImageDetail.MAX,
        "Detect": ImageDetail.HIGH,
        "Classify": ImageDetail.LOW,
        "VQA": ImageDetail.MEDIUM,
        "Prompt": ImageDetail.MEDIUM,
    },
    sampling={"Caption": _FREE, "OCR": _GREEDY, "Detect": _GREEDY, "Classify": _GREEDY, "VQA": _FREE, "Prompt": _FREE},
    # Share of right answers in Roboflow's comparison of 67 prompts (visioncheckup.com).
    quality={
        "overall": 0.6866,
        "defect": 0.80,
        "document": 0.889,
        "counting": 0.10,
        "object": 0.857,
        "spatial": 0.684,
    },
    read=_read,
    streamed=_Streamed,
    escape=_escape,
)
