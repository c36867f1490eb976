from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gateway.domain import ImageDetail
from gateway.profiles.gpt55 import PROFILE

LOW, MEDIUM, HIGH, MAX = ImageDetail
BILLED = Path(__file__).parents[3] / ".." / "shared" / "data" / "gpt-5.5-billed-image-tokens.csv"


@pytest.mark.parametrize(
    ("size", "tokens"),
    # At `low`, `high` and `original`, by the rule of OpenAI's guide "Images and vision".
    [
        ((224, 224), (59, 59, 59)),
        ((512, 512), (308, 308, 308)),
        ((640, 480), (231, 360, 360)),
        ((1024, 1024), (308, 1229, 1229)),
        ((1920, 1080), (173, 2448, 2448)),
        ((4000, 3000), (231, 2942, 11_868)),
        ((8000, 6000), (231, 2942, 11_868)),
    ],
)
def test_an_image_costs_the_tokens_of_the_published_rule(size, tokens):
    assert tuple(PROFILE.plan(*size, detail).token_count for detail in (LOW, HIGH, MAX)) == tokens


@pytest.mark.parametrize(("detail", "told"), [(LOW, "low"), (MEDIUM, "high"), (HIGH, "high"), (MAX, "original")])
def test_the_provider_is_told_a_detail_by_name(detail, told):
    assert PROFILE.plan(4000, 3000, detail).budget == told


@pytest.mark.parametrize(
    ("detail", "sent"), [(LOW, (512, 384)), (MEDIUM, (1152, 864)), (HIGH, (1824, 1368)), (MAX, (3669, 2752))]
)
def test_an_image_shrinks_to_what_the_provider_would_shrink_it_to(detail, sent):
    plan = PROFILE.plan(4000, 3000, detail)

    assert (plan.width_px, plan.height_px) == sent


@pytest.mark.parametrize("detail", list(ImageDetail))
@pytest.mark.parametrize("size", [(4000, 3000), (1181, 2953), (16_384, 16_384), (16_384, 1), (3, 9000), (2049, 2047)])
def test_what_was_shrunk_once_is_not_shrunk_again(size, detail):
    once = PROFILE.plan(*size, detail)

    assert PROFILE.plan(once.width_px, once.height_px, detail) == once


@pytest.mark.parametrize(("detail", "most"), [(LOW, 308), (MEDIUM, 1229), (HIGH, 3000), (MAX, 12_000)])
@pytest.mark.parametrize("size", [(4000, 3000), (16_384, 16_384), (16_384, 2500), (1181, 2953)])
def test_no_image_costs_more_than_its_detail_allows(size, detail, most):
    assert PROFILE.plan(*size, detail).token_count <= most


def test_an_image_within_the_limit_is_left_as_it_is():
    plan = PROFILE.plan(1920, 1080, HIGH)

    assert (plan.width_px, plan.height_px) == (1920, 1080)


def billed_calls():
    if not BILLED.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="the list of billed calls is not beside the checkout"))]
    with BILLED.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("call", billed_calls())
def test_calls_that_were_billed_are_reproduced_within_two_percent(call):
    width, height, classes = (int(call[column]) for column in ("uploaded_width", "uploaded_height", "label_classes"))
    # The prompt of those calls was about 108 tokens for one class, and 3 more for each further one.
    text = 108 + 3 * (classes - 1)

    estimated = text + PROFILE.plan(width, height, MAX).token_count

    assert estimated == pytest.approx(int(call["input_tokens"]), rel=0.02)
