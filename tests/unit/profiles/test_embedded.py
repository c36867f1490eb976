from __future__ import annotations

import pytest

from gateway.domain import ImageDetail, ImagePlan
from gateway.errors import UnsupportedByModel
from gateway.profiles.embedded import PROFILE


@pytest.mark.parametrize(
    ("detail", "size", "sent"),
    [
        (ImageDetail.LOW, (640, 480), (640, 480)),
        (ImageDetail.LOW, (4000, 3000), (640, 480)),
        (ImageDetail.HIGH, (2048, 1), (2048, 1)),
        (ImageDetail.HIGH, (1000, 4096), (500, 2048)),
        (ImageDetail.LOW, (16_000, 10), (640, 1)),
    ],
)
def test_an_image_passes_through_up_to_a_longest_side(detail, size, sent):
    assert PROFILE.plan(*size, detail) == ImagePlan(*sent, token_count=0)


def test_an_answer_is_left_as_it_is():
    assert PROFILE.read('{"text": "A cat."}') == '{"text": "A cat."}'


def test_what_the_model_cannot_do_is_told_in_its_own_sentence():
    with pytest.raises(UnsupportedByModel, match=r"It cannot find dragon\.") as caught:
        PROFILE.read('{"unsupported": {"reason": "labels", "message": "It cannot find dragon."}}')

    assert caught.value.metadata == {"unsupported": "labels"}


@pytest.mark.parametrize("text", ['{"unsupported": "yes"}', '["unsupported"]', "not JSON", "{" * 5000, "[" * 100_000])
def test_what_is_no_refusal_is_for_the_parser_to_judge(text):
    assert PROFILE.read(text) == text
