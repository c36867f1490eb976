"""`vision-gateway models --address`, against a gateway that answers from a script."""

from __future__ import annotations

import json

import grpc

from tests.fixtures.scripted_gateway import Failure
from visiongateway.v1 import model_pb2, vision_service_pb2 as pb

LISTED = pb.ListModelsResponse(
    models=[
        model_pb2.Model(
            name="gemma",
            backend="triton",
            family="gemma4",
            state=model_pb2.MODEL_STATE_READY,
            tasks=["Caption", "Detect"],
            price=model_pb2.ModelPrice(input_nano_usd_per_token=60, output_nano_usd_per_token=330),
        ),
        model_pb2.Model(
            name="own\x1b",
            backend="openai",
            state=model_pb2.MODEL_STATE_NOT_READY,
            tasks=["OCR"],
            price=model_pb2.ModelPrice(free=True),
        ),
    ],
    routes=[model_pb2.Route(name="default", models=["gemma", "own"], choose="order", escalates=True)],
)


def test_models_are_listed_with_what_they_do_and_cost_and_the_routes_after_them(run, scripted_gateway):
    scripted_gateway.script("ListModels", LISTED)

    result = run("models", "--address", scripted_gateway.address)

    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "gemma  ready · triton, gemma4 · Caption, Detect · $0.06 / $0.33 per 1M tokens in / out",
            "own�  not ready · openai · OCR · free",
            "route default: gemma, own (by order, escalates)",
        ],
    )


def test_json_is_all_that_the_gateway_tells(run, scripted_gateway):
    scripted_gateway.script("ListModels", LISTED)

    told = json.loads(run("models", "--address", scripted_gateway.address, "--json").stdout)

    assert [each["name"] for each in told["models"]] == ["gemma", "own\x1b"]


def test_the_key_goes_with_it(run, scripted_gateway):
    run("models", "--address", scripted_gateway.address, "--api-key", "secret")

    assert scripted_gateway.attempts[0].metadata["authorization"] == "Bearer secret"


def test_a_failure_is_told(run, scripted_gateway):
    scripted_gateway.script("ListModels", Failure(grpc.StatusCode.UNAUTHENTICATED, "Who are you?", "UNAUTHENTICATED"))

    result = run("models", "--address", scripted_gateway.address)

    assert (result.exit_code, result.stderr) == (1, "UNAUTHENTICATED: Who are you?\n")
