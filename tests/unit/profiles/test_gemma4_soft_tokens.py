from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from gateway.domain import ImageDetail
from gateway.profiles.gemma4 import PROFILE, _grid

BUDGETS = (70, 140, 280, 560, 1120)
MARKS = 2
LINES = (Path(__file__).parent / "golden" / "gemma4_soft_tokens.csv").read_text().splitlines()
GOLDEN = [
    {name: int(value) for name, value in row.items()}
    for row in csv.DictReader(line for line in LINES if not line.startswith("#"))
]


def counted(width, height, budget):
    columns, rows = _grid(width, height, budget)
    return columns * rows


def test_at_least_200_sizes_are_compared():
    assert len({(row["width"], row["height"]) for row in GOLDEN}) >= 200


@pytest.mark.parametrize("budget", BUDGETS)
def test_an_image_of_any_size_costs_the_soft_tokens_of_the_published_rule(budget):
    published = {(row["width"], row["height"]): row[f"t{budget}"] for row in GOLDEN}

    assert {size: counted(*size, budget) for size in published} == published


@pytest.mark.parametrize(("size", "tokens"), [((640, 427), 260), ((1920, 1080), 264)])
def test_the_golden_file_has_the_counts_that_are_known_from_elsewhere(size, tokens):
    (row,) = [row for row in GOLDEN if (row["width"], row["height"]) == size]

    assert row["t280"] == tokens


@pytest.mark.parametrize("detail", ImageDetail)
def test_the_published_image_processor_counts_what_was_planned_for_the_picture_sent(detail):
    module = pytest.importorskip(
        "transformers.models.gemma4.image_processing_pil_gemma4",
        reason="transformers (5.23 or newer, with Gemma 4) is not installed: pip install transformers torch",
        exc_type=ImportError,
    )
    plans = [PROFILE.plan(row["width"], row["height"], detail) for row in GOLDEN[::12]]
    sent = [Image.new("RGB", (plan.width_px, plan.height_px)) for plan in plans if plan.width_px * plan.height_px > 9]
    planned = [plan.token_count for plan in plans if plan.width_px * plan.height_px > 9]
    processor = module.Gemma4ImageProcessorPil(max_soft_tokens=int(plans[0].budget))

    # One by one: each is padded to the whole budget, and twenty at once would take gigabytes.
    found = [processor(picture, return_tensors="np")["num_soft_tokens_per_image"][0] for picture in sent]

    assert [int(count) + MARKS for count in found] == planned
