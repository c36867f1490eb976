"""Boxes come back from a model's own numbers to where they are in the picture."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gateway import profiles
from gateway.domain import ImageDetail, ImagePlan
from gateway.errors import InvalidImage

FAMILIES = ["embedded", "gemma4", "gpt55"]

fractions = st.floats(0, 1)
sides = st.integers(1, 16_384)
details = st.sampled_from(ImageDetail)


@st.composite
def unit_boxes(draw):
    left, right = sorted((draw(fractions), draw(fractions)))
    top, bottom = sorted((draw(fractions), draw(fractions)))
    return left, top, right, bottom


def written(box, convention, plan):
    """Writes a box of fractions as *convention* says: what `to_unit` undoes."""
    width, height = (convention.scale, convention.scale) if convention.scale else (plan.width_px, plan.height_px)
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    return (left, top, right, bottom) if convention.order == "xyxy" else (top, left, bottom, right)


@pytest.mark.parametrize("family", FAMILIES)
@given(box=unit_boxes(), width=sides, height=sides)
def test_a_box_survives_being_written_and_read(family, box, width, height):
    convention, plan = profiles.load(family).boxes, ImagePlan(width, height, token_count=0)

    assert convention.to_unit(written(box, convention, plan), plan) == pytest.approx(box, abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@given(box=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4), width=sides, height=sides)
def test_any_four_numbers_are_a_box_within_the_picture(family, box, width, height):
    left, top, right, bottom = profiles.load(family).boxes.to_unit(box, ImagePlan(width, height, token_count=0))

    assert 0 <= left <= right <= 1
    assert 0 <= top <= bottom <= 1


@pytest.mark.parametrize("family", FAMILIES)
@given(width=sides, height=sides, detail=details)
def test_a_plan_never_enlarges_and_keeps_the_shape(family, width, height, detail):
    try:
        plan = profiles.load(family).plan(width, height, detail)
    except InvalidImage:
        return

    assert 1 <= plan.width_px <= width
    assert 1 <= plan.height_px <= height


@given(width=sides, height=sides, detail=details)
def test_gemma_never_counts_more_than_its_budget(width, height, detail):
    try:
        plan = profiles.load("gemma4").plan(width, height, detail)
    except InvalidImage:
        return

    assert 0 < plan.token_count - 2 <= int(plan.budget)


@given(width=sides, height=sides, detail=details)
def test_gpt_shrinks_nothing_that_was_shrunk(width, height, detail):
    plan = profiles.load("gpt55").plan(width, height, detail)

    assert profiles.load("gpt55").plan(plan.width_px, plan.height_px, detail) == plan


@given(text=st.text() | st.text('<|>/"turnimageos_ ', max_size=40))
def test_text_of_a_caller_never_reaches_gemma_as_a_control_token(text):
    escaped = profiles.load("gemma4").escape(text)

    assert [token for token in ("<|", "|>", "<eos>", "<bos>") if token in escaped] == []
