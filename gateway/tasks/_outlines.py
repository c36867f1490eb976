"""Finds the outline of one line of text in a model's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from gateway.tasks._boxes import box
from gateway.tasks._records import number

if TYPE_CHECKING:
    from gateway.domain import ImagePlan
    from gateway.profiles import Profile

# Corners `(x, y)` in fractions of the picture, clockwise from the line's own top left.
Outline: TypeAlias = tuple[tuple[float, float], ...]

_FEWEST_CORNERS = 3


def outline(record: Mapping[str, object], profile: Profile, plan: ImagePlan) -> Outline | None:
    """Gives the polygon of *record* from a family that answers queries with polygons, else the corners of its box.

    None if there is neither, or it has no extent.
    """
    polygon = record.get("polygon")
    if profile.takes_query and isinstance(polygon, list):
        return _polygon(polygon)
    corners = box(record, profile.boxes, plan)
    if corners is None:
        return None
    left, top, right, bottom = corners
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _polygon(points: list[object]) -> Outline | None:
    corners: list[tuple[float, float]] = []
    for point in points:
        x, y = map(number, point) if isinstance(point, list) and len(point) == 2 else (None, None)  # noqa: PLR2004  x and y
        if x is None or y is None:
            return None
        corners.append((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)))
    return tuple(corners) if len(set(corners)) >= _FEWEST_CORNERS else None
