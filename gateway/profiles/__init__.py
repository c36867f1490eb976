"""One file per model family: `gateway/profiles/gemma4.py` says what Gemma 4 wants and can do."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from gateway.domain import ImageDetail, ImagePlan, Query
from gateway.pricing import Price


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
        if len(box) != 4 or not all(map(math.isfinite, box)):  # noqa: PLR2004  a box has four numbers
            raise ValueError("a box is four finite numbers")
        first, second, third, fourth = box
        if self.order == "yxyx":
            first, second, third, fourth = second, first, fourth, third
        width, height = (self.scale, self.scale) if self.scale else (plan.width_px, plan.height_px)
        left, right = sorted((_clamped(first / width), _clamped(third / width)))
        top, bottom = sorted((_clamped(second / height), _clamped(fourth / height)))
        return left, top, right, bottom

    @property
    def corners(self) -> str:
        """The four numbers by name, in order, as an instruction shows them."""
        return "[x_min, y_min, x_max, y_max]" if self.order == "xyxy" else "[y_min, x_min, y_max, x_max]"

    def unit(self, plan: ImagePlan) -> str:
        """Says what the four numbers count, to stand behind "in" in an instruction."""
        if self.scale is None:
            return f"integer pixels of the image, which is {plan.width_px} wide and {plan.height_px} high"
        if self.scale == 1:
            return "fractions of the image from 0 to 1"
        return f"integers from 0 to {self.scale}"


def _clamped(fraction: float) -> float:
    return min(max(fraction, 0.0), 1.0)


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
    *shows_schema* says that the provider tells the model what the schema of an answer is; else the wording does.
    *quality* is the share of correct answers in [0, 1] on a stated benchmark, `overall` and by category; empty is
    unknown.
    *plan* gives size and token count for an image of (upright width, height in pixels) at a detail, of at most so many
    tokens where that is not None; raises `UnsupportedByModel` where no picture has so few.
    *price* gives the price of a model by the name its provider knows it by, unless the settings have one; raises
    `UnknownPriceError`.
    *read* takes a completion's text and gives the answer in it (thoughts stripped), or raises `UnsupportedByModel`
    where the model says in its answer that it cannot do what was asked.
    *streamed* gives a function for one answer that comes in pieces: each piece goes in, and what of the answer is sure
    by then comes out, thoughts left out as by *read*.
    *escape* takes text that a caller wrote and gives it without the family's control tokens.
    """

    family: str
    version: str
    boxes: BoxConvention
    structured_output: bool
    media_types: frozenset[str]
    max_images: int
    context_tokens: int
    plan: Callable[[int, int, ImageDetail, int | None], ImagePlan]
    details: Mapping[str, ImageDetail]
    price: Callable[[str], Price]
    sampling: Mapping[str, Sampling] = field(default_factory=dict)
    wording: Mapping[str, str] = field(default_factory=dict)
    takes_query: bool = False
    shows_schema: bool = False
    quality: Mapping[str, float] = field(default_factory=dict)
    read: Callable[[str], str] = str
    streamed: Callable[[], Callable[[str], str]] = lambda: str
    escape: Callable[[str], str] = str

    def detail(self, query: Query) -> ImageDetail:
        """Gives how much of the image *query* wants seen, where the caller does not say: the most of its parts."""
        return max(self.details[part.rpc] for part in query.parts)

    def sampled(self, query: Query) -> Sampling:
        """Gives the sampling for *query*, that of its parts that leaves the least to chance."""
        found = (self.sampling.get(part.rpc, Sampling()) for part in query.parts)
        return min(found, key=lambda each: math.inf if each.temperature is None else each.temperature)


def load(family: str) -> Profile:
    """Gives the profile of *family*; LookupError names the families there are."""
    families = [info.name for info in pkgutil.iter_modules(__path__)]
    if family not in families:
        raise LookupError(f"there is no model family {family!r}; there are {', '.join(families)}")
    profile: Profile = import_module(f"{__name__}.{family}").PROFILE
    return profile
