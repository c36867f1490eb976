"""One file per model family: `gateway/profiles/gemma4.py` says what Gemma 4 wants and can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from gateway.domain import ImageDetail, ImagePlan


@dataclass(frozen=True, slots=True)
class BoxConvention:
    """How a family writes a box: the order of its four numbers and what they count.

    *scale* is the length of both axes (1000 for a grid, 1 for fractions), or None for pixels of the image sent.
    """

    order: Literal["xyxy", "yxyx"]
    scale: int | None

    def to_unit(self, box: Sequence[float], plan: ImagePlan) -> tuple[float, float, float, float]:
        """Turns four numbers in this convention into `(x_min, y_min, x_max, y_max)` fractions.

        Swapped corners are put right and what lies outside is clamped to [0, 1].
        Raises ValueError unless *box* is four finite numbers.
        """
        raise ValueError(box, plan)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of a family for one task; None leaves a knob to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one model family wants and can do, as data.

    *version* changes whenever wording or image sizes do: it is part of `prompt_version` and of every cache key.
    *wording* overrides a task's own instruction text, keyed by RPC name. A family with *takes_query* gets the query
    itself as JSON, in fractions of the upright picture, in place of words (the embedded model).
    *quality* is the share of correct answers in [0, 1] on a stated benchmark, for `priority: QUALITY`; None is unknown.
    *plan* gives size and token count for an image of (upright width, height in pixels) at a detail.
    *read* takes a completion's text and gives the answer in it (thoughts stripped), or raises `UnsupportedByModel`
    where the model says in its answer that it cannot do what was asked.
    """

    family: str
    version: str
    boxes: BoxConvention
    structured_output: bool
    media_types: frozenset[str]
    max_images: int
    context_tokens: int
    plan: Callable[[int, int, ImageDetail], ImagePlan]
    details: Mapping[str, ImageDetail]
    sampling: Mapping[str, Sampling] = field(default_factory=dict)
    wording: Mapping[str, str] = field(default_factory=dict)
    takes_query: bool = False
    quality: float | None = None
    read: Callable[[str], str] = str


def load(family: str) -> Profile:
    """Gives the profile of *family*; LookupError names the families there are."""
    raise LookupError(import_module, family)
