"""What is kept of an answer is all of it, and nothing of its call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from gateway import tasks
from gateway.compose.cache import decode, encode
from gateway.domain import Answer, Completion, CostBasis, ImagePlan, ServiceTier
from gateway.usage import Usage
from visiongateway.v1 import geometry_pb2, vision_service_pb2 as pb

TASKS = tasks.load()
RESPONSES = {
    "Caption": pb.CaptionResponse(text="a cat"),
    "OCR": pb.OCRResponse(text="TOTAL 7", lines=[pb.TextLine(text="TOTAL 7")]),
    "Detect": pb.DetectResponse(
        detections=[pb.Detection(label="cat", box=geometry_pb2.BoundingBox(x_max=0.5), score=0.0)]
    ),
    "Classify": pb.ClassifyResponse(labels=[pb.Label(label="cat")]),
    "VQA": pb.VQAResponse(answer="yes"),
}


def answer(response):
    return Answer(
        response,
        Completion("raw", Usage(output=5), "gpt-5.5-2026", service_tier=ServiceTier.FLEX, time_to_first_token_s=1.0),
        "gpt",
        "openai",
        "gpt55/1/caption/1",
        ImagePlan(640, 480, 30),
        1234,
        doubt="left out",
        cost_basis=CostBasis.BILLED,
        price_version="genai-prices 0.0.40",
    )


@pytest.mark.parametrize("rpc", sorted(RESPONSES))
def test_an_answer_comes_back_whole_and_free(rpc):
    given_answer = answer(RESPONSES[rpc])

    kept = decode(TASKS, rpc, encode(given_answer))

    free = replace(given_answer, completion=Completion("", Usage(), "gpt-5.5-2026"), cost_basis=CostBasis.FREE)
    assert kept == replace(free, price_version="")
    assert kept.response is not given_answer.response


def test_the_answer_that_is_kept_stays_as_it_was():
    given_answer = answer(pb.CaptionResponse(text="a cat"))
    encode(given_answer)

    assert given_answer.response == pb.CaptionResponse(text="a cat")


@given(st.binary(max_size=200))
def test_other_bytes_are_no_answer_or_name_their_model(value):
    try:
        found = decode(TASKS, "Detect", value)
    except ValueError:
        return
    assert found.model
