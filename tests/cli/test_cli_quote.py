"""What a call would cost, and who asks, from the command line, against a gateway that answers from a script."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from visiongateway.v1 import vision_service_pb2 as pb


@pytest.fixture
def run(scripted_gateway, monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_GATEWAY_ADDRESS", scripted_gateway.address)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8image")
    return lambda command, *arguments: CliRunner().invoke(app, [command, str(photo), *arguments])


def test_a_quote_tells_the_price_at_each_model_and_who_would_be_passed_over(scripted_gateway, run):
    answer = pb.QuoteResponse(
        candidates=[
            {
                "model": "a",
                "expected_cost_nano_usd": 6_300_000,
                "max_cost_nano_usd": 9_045_000,
                "image_token_count": 180,
            },
            {"model": "b", "skip_reason": "COST_ABOVE_LIMIT"},
        ]
    )
    scripted_gateway.script("Quote", answer)

    said = run("vqa", "How many?", "--quote", "--max-image-tokens", "200").output

    (attempt,) = scripted_gateway.attempts
    assert (attempt.request.vqa.question, attempt.request.vqa.options.max_image_tokens) == ("How many?", 200)
    assert said.splitlines() == [
        "a: $0.0063 expected, $0.009045 at most, 180 image tokens",
        "b: $0 expected, $0 at most, 0 image tokens · passed over: COST_ABOVE_LIMIT",
    ]


def test_the_key_of_a_principal_goes_with_the_call(scripted_gateway, run, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_API_KEY", "secret")

    run("caption")

    (attempt,) = scripted_gateway.attempts
    assert attempt.metadata["authorization"] == "Bearer secret"
