"""Finds the box in one element of a model's answer, under whatever name and in whatever form it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from gateway.tasks._records import number

if TYPE_CHECKING:
    from gateway.domain import ImagePlan
    from gateway.profiles import BoxConvention

# Left, top, right, bottom in fractions of the picture, left < right and top < bottom.
Box: TypeAlias = tuple[float, float, float, float]

_KEYS = ("box_2d", "bbox_2d", "bbox", "box", "bounding_box", "boundingBox", "coordinates")
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_SIDES = 4


def box(record: Mapping[str, object], convention: BoxConvention, plan: ImagePlan) -> Box | None:
    """Gives the box of *record*, which is written as *convention* says; None if there is none of any extent.

    Corners that are named are taken by their names. Decimal fractions up to 1 are read as fractions of the image
    whatever the convention: on a grid of 1000, or in pixels, they would all be one point.
    """
    written = next((record[key] for key in _KEYS if key in record), record)
    if isinstance(written, list) and len(written) == 1 and isinstance(written[0], Mapping):
        written = written[0]
    if isinstance(written, Mapping):
        convention = replace(convention, order="xyxy")
        sides = _named({key.replace("_", "").lower(): value for key, value in written.items() if isinstance(key, str)})
    else:
        sides = _listed(written)
    numbers = [side for side in map(number, sides) if side is not None]
    if len(numbers) != _SIDES or len(sides) != _SIDES:
        return None
    if all(0 <= side <= 1 for side in numbers) and any(map(_is_decimal, sides)):
        convention = replace(convention, scale=1)
    left, top, right, bottom = convention.to_unit(numbers, plan)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _named(written: Mapping[str, object]) -> list[object]:
    for names in _CORNERS:
        if all(name in written for name in names):
            return [written[name] for name in names]
    for names in _SIZES:
        if all(name in written for name in names):
            x, y, width, height = (number(written[name]) for name in names)
            if x is None or y is None or width is None or height is None:
                return []
            # Whole numbers stay whole, for whoever tells fractions from pixels by that.
            return [int(side) if side.is_integer() else side for side in (x, y, x + width, y + height)]
    return []


def _listed(written: object) -> list[object]:
    if isinstance(written, str):
        return list(_NUMBER.findall(written))
    if not isinstance(written, list):
        return []
    return [inner for item in written for inner in (item if isinstance(item, list) else [item])]


def _is_decimal(side: object) -> bool:
    return isinstance(side, float) or (isinstance(side, str) and "." in side)
