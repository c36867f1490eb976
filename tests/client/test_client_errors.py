"""A failed call tells its caller what the gateway told."""

from __future__ import annotations

import asyncio
import pickle

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

import visiongateway
from tests.fixtures.scripted_gateway import Failure
from visiongateway import AsyncVisionClient, Violation, VisionClient, VisionError

Code = grpc.StatusCode
NO_RETRY = ("grpc-retry-pushback-ms", "-1")


def failure_of_sync(address: str) -> VisionError:
    with VisionClient(address) as client, pytest.raises(VisionError) as caught:
        client.detect(b"image", request_id="mine")
    return caught.value


def failure_of_async(address: str) -> VisionError:
    async def call() -> VisionError:
        async with AsyncVisionClient(address) as client:
            with pytest.raises(VisionError) as caught:
                await client.detect(b"image", request_id="mine")
        return caught.value

    return asyncio.run(call())


TWINS = pytest.mark.parametrize("failure_of", [failure_of_sync, failure_of_async], ids=["sync", "async"])


@TWINS
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.INVALID_ARGUMENT, "INVALID_IMAGE", "InvalidRequest"),
        (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST", "InvalidRequest"),
        (Code.NOT_FOUND, "UNKNOWN_MODEL", "UnknownModel"),
        (Code.PERMISSION_DENIED, "URL_FORBIDDEN", "AccessDenied"),
        (Code.UNAUTHENTICATED, "UNAUTHENTICATED", "AccessDenied"),
        (Code.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", "LimitExceeded"),
        (Code.FAILED_PRECONDITION, "UNSUPPORTED_BY_MODEL", "Unsupported"),
        (Code.FAILED_PRECONDITION, "COST_ABOVE_LIMIT", "CostAboveLimit"),
        (Code.FAILED_PRECONDITION, "REFUSED", "Refused"),
        (Code.INTERNAL, "UNUSABLE_ANSWER", "UnusableAnswer"),
        (Code.DATA_LOSS, "TRUNCATED_ANSWER", "UnusableAnswer"),
        (Code.UNAVAILABLE, "OVERLOADED", "Unavailable"),
        (Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT", "DeadlineExceeded"),
        (Code.INTERNAL, "INTERNAL", "VisionError"),
        (Code.FAILED_PRECONDITION, "A_REASON_OF_TOMORROW", "VisionError"),
        # Told by something that is no gateway: no details at all.
        (Code.UNAVAILABLE, "", "Unavailable"),
        (Code.CANCELLED, "", "Unavailable"),
        (Code.RESOURCE_EXHAUSTED, "", "LimitExceeded"),
        (Code.UNIMPLEMENTED, "", "VisionError"),
    ],
)
def test_each_failure_has_its_class(scripted_gateway, failure_of, code, reason, kind):
    scripted_gateway.script("Detect", Failure(code, "told so", reason, trailers=[NO_RETRY]))

    error = failure_of(scripted_gateway.address)

    assert (type(error), error.code, error.reason, error.message) == (
        getattr(visiongateway, kind),
        code,
        reason,
        "told so",
    )


@TWINS
def test_everything_the_gateway_tells_is_there(scripted_gateway, failure_of):
    scripted_gateway.script(
        "Detect",
        Failure(
            Code.RESOURCE_EXHAUSTED,
            "budget of team-a is spent",
            "BUDGET_EXCEEDED",
            metadata={"limit_usd": "5"},
            details=[
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field="labels[3]", description="too long")
                    ]
                ),
                error_details_pb2.QuotaFailure(
                    violations=[error_details_pb2.QuotaFailure.Violation(subject="team-a", description="$5 a day")]
                ),
                error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
            ],
            trailers=[
                ("x-request-id", "theirs"),
                ("x-vision-model", "gpt-5.5"),
                ("x-vision-cost-nano-usd", "1234"),
            ],
        ),
    )

    error = failure_of(scripted_gateway.address)

    told = {
        "metadata": {"limit_usd": "5"},
        "violations": (Violation("labels[3]", "too long"), Violation("team-a", "$5 a day")),
        "retry_after": 2.5,
        "request_id": "theirs",
        "model": "gpt-5.5",
        "cost_nano_usd": 1234,
    }
    assert {name: getattr(error, name) for name in told} == told


@TWINS
def test_a_failure_without_details_says_only_what_is_known(scripted_gateway, failure_of):
    scripted_gateway.script("Detect", Failure(Code.INTERNAL, "broken"))

    error = failure_of(scripted_gateway.address)

    assert (
        error.metadata,
        error.violations,
        error.retry_after,
        error.request_id,
        error.model,
        error.cost_nano_usd,
    ) == (
        {},
        (),
        None,
        "mine",
        "",
        0,
    )


@pytest.mark.parametrize(
    "trailers",
    [
        [("grpc-status-details-bin", b"\xff\xff\xff")],
        [("x-vision-cost-nano-usd", "a lot")],
        [("x-vision-cost-nano-usd", "-1")],
    ],
)
def test_trailers_that_make_no_sense_are_left_out(scripted_gateway, trailers):
    scripted_gateway.script("Detect", Failure(Code.INTERNAL, "broken", trailers=trailers))

    error = failure_of_sync(scripted_gateway.address)

    assert (type(error), error.message, error.cost_nano_usd) == (VisionError, "broken", 0)


def test_an_error_reads_as_reason_and_message(scripted_gateway):
    scripted_gateway.script("Detect", Failure(Code.FAILED_PRECONDITION, "It knows no dragons.", "UNSUPPORTED_BY_MODEL"))

    assert str(failure_of_sync(scripted_gateway.address)) == "UNSUPPORTED_BY_MODEL: It knows no dragons."


def test_an_error_without_reason_reads_as_code_and_message(scripted_gateway):
    scripted_gateway.script("Detect", Failure(Code.INTERNAL, "broken"))

    assert str(failure_of_sync(scripted_gateway.address)) == "INTERNAL: broken"


def test_an_error_survives_pickling(scripted_gateway):
    scripted_gateway.script("Detect", Failure(Code.INVALID_ARGUMENT, "too big", "INVALID_IMAGE", {"limit": "pixels"}))
    error = failure_of_sync(scripted_gateway.address)

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # Our own bytes.

    assert (type(copy), vars(copy)) == (type(error), vars(error))


def test_the_libraries_own_error_is_the_cause(scripted_gateway):
    scripted_gateway.script("Detect", Failure(Code.INTERNAL, "broken"))

    assert isinstance(failure_of_sync(scripted_gateway.address).__cause__, grpc.RpcError)
