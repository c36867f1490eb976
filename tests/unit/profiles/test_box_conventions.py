from __future__ import annotations

import math

import pytest

from gateway.domain import ImagePlan
from gateway.profiles import BoxConvention

PLAN = ImagePlan(width_px=2000, height_px=500, token_count=0)
GRID = BoxConvention(order="yxyx", scale=1000)
PIXELS = BoxConvention(order="xyxy", scale=None)
FRACTIONS = BoxConvention(order="xyxy", scale=1)


@pytest.mark.parametrize(
    ("convention", "box", "expected"),
    [
        (GRID, (100, 200, 300, 400), (0.2, 0.1, 0.4, 0.3)),
        (PIXELS, (200, 50, 400, 150), (0.1, 0.1, 0.2, 0.3)),
        (FRACTIONS, (0.25, 0.5, 0.75, 1), (0.25, 0.5, 0.75, 1)),
    ],
)
def test_a_box_becomes_fractions_of_the_picture(convention, box, expected):
    assert convention.to_unit(box, PLAN) == expected


def test_swapped_corners_are_put_right():
    assert PIXELS.to_unit((400, 150, 200, 50), PLAN) == (0.1, 0.1, 0.2, 0.3)


def test_what_lies_outside_the_picture_is_clamped():
    assert PIXELS.to_unit((-7, -1, 2300, 500.5), PLAN) == (0, 0, 1, 1)


@pytest.mark.parametrize("box", [(1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3, math.nan), (1, 2, 3, -math.inf), ()])
def test_what_is_not_four_finite_numbers_is_no_box(box):
    with pytest.raises(ValueError, match="four finite numbers"):
        GRID.to_unit(box, PLAN)


@pytest.mark.parametrize(
    ("convention", "corners", "unit"),
    [
        (GRID, "[y_min, x_min, y_max, x_max]", "integers from 0 to 1000"),
        (
            PIXELS,
            "[x_min, y_min, x_max, y_max]",
            "integer pixels of the image, which is 2000 wide and 500 high",
        ),
        (FRACTIONS, "[x_min, y_min, x_max, y_max]", "fractions of the image from 0 to 1"),
    ],
)
def test_a_convention_says_itself_in_words(convention, corners, unit):
    assert (convention.corners, convention.unit(PLAN)) == (corners, unit)
