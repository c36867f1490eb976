"""How figures and failures read."""

from __future__ import annotations

import grpc
import pytest

from gateway.cli import output
from visiongateway import Violation, VisionError
from visiongateway.v1 import call_pb2


@pytest.mark.parametrize(
    ("nano_usd", "expected"),
    [
        (0, "$0"),
        (1, "$0.000000001"),
        (11_140_000, "$0.01114"),
        (20_000_000_000, "$20"),
        (1_234_567_890_123, "$1234.567890123"),
    ],
)
def test_a_cost_is_exact(nano_usd, expected):
    assert output.cost(call_pb2.CallInfo(cost_nano_usd=nano_usd)) == expected


def test_an_estimated_cost_is_called_one():
    info = call_pb2.CallInfo(cost_nano_usd=5_000, cost_basis=call_pb2.COST_BASIS_ESTIMATED)

    assert output.cost(info) == "about $0.000005"


def test_the_models_asked_before_are_named_with_their_reasons():
    attempts = [
        call_pb2.Attempt(model="gemma", reason="BACKEND_UNAVAILABLE"),
        call_pb2.Attempt(model="gpt-5.5"),
    ]

    assert output.model(call_pb2.CallInfo(model="gpt-5.5", attempts=attempts)) == (
        "gpt-5.5 (after gemma: BACKEND_UNAVAILABLE)"
    )


def error(message, **told):
    made = VisionError(message)
    for name, value in told.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (error("broken", code=grpc.StatusCode.INTERNAL), ["INTERNAL: broken"]),
        (error("It cannot.", reason="REFUSED"), ["REFUSED: It cannot."]),
        (
            error("is text", reason="INVALID_IMAGE", violations=(Violation("image", "is text"),)),
            ["INVALID_IMAGE: image: is text"],
        ),
        (
            error("seed: is -1", reason="INVALID_FIELD", violations=(Violation("seed", "is -1"),)),
            ["INVALID_FIELD: seed: is -1"],
        ),
        (
            error("The budget is spent", reason="BUDGET_EXCEEDED", violations=(Violation("team-a", "$5 a day"),)),
            ["BUDGET_EXCEEDED: The budget is spent", "  team-a: $5 a day"],
        ),
        (
            error("Too many calls", reason="OVERLOADED", retry_after=1.5),
            ["OVERLOADED: Too many calls", "  Try again in 1.5 s."],
        ),
        (
            error("No JSON", reason="UNUSABLE_ANSWER", cost_nano_usd=11_140_000),
            ["UNUSABLE_ANSWER: No JSON", "  It cost $0.01114 all the same."],
        ),
        (error("\x1b]0;title\x07", reason="INTERNAL"), ["INTERNAL: �]0;title�"]),
    ],
)
def test_a_failure_is_told_once_and_whole(failure, expected):
    assert output.problem(failure) == expected
