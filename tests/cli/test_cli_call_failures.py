"""How calls that fail end on the command line, against a gateway that answers from a script."""

from __future__ import annotations

import socket

import grpc
import pytest
from google.rpc import error_details_pb2

from tests.fixtures.scripted_gateway import Failure

DATA = b"\xff\xd8image"
DATA_JSON = {"data": "/9hpbWFnZQ=="}
NOBODY = "127.0.0.1:1"  # A port that nothing listens on.


def test_a_failed_call_prints_nothing_on_standard_output(run, scripted_gateway, photo):
    scripted_gateway.script("Caption", Failure(grpc.StatusCode.FAILED_PRECONDITION, "It cannot.", "REFUSED"))

    result = run("caption", photo, "--json")

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "REFUSED: It cannot.\n")


def test_wrong_fields_are_listed(run, scripted_gateway, photo):
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field="labels[1]", description="is empty"),
        error_details_pb2.BadRequest.FieldViolation(field="options.seed", description="is -1"),
    ]
    scripted_gateway.script(
        "Detect",
        Failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            "labels[1]: is empty; options.seed: is -1",
            "INVALID_FIELD",
            details=[error_details_pb2.BadRequest(field_violations=violations)],
        ),
    )

    result = run("detect", photo)

    assert result.exit_code == 1
    assert result.stderr == "INVALID_FIELD: 2 fields are wrong\n  labels[1]: is empty\n  options.seed: is -1\n"


def test_no_gateway_is_told_in_one_line(run, photo):
    result = run("caption", photo, "--address", NOBODY)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"UNAVAILABLE: no gateway takes calls at {NOBODY}: ")
    assert result.stderr.count("\n") == 1


def test_a_passed_deadline_is_told_with_its_length(run, photo):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = run("caption", photo, "--timeout", 0.3, "--address", address)

    assert (result.exit_code, result.stderr) == (1, "DEADLINE_EXCEEDED: no answer within 0.3 s\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", "{photo}", "--detail", "epic"],
        ["caption", "{photo}", "--reasoning", "deep"],
        ["caption", "{photo}.png"],
        ["caption"],
        ["vqa", "{photo}"],
        ["vqa", "{photo}", "?", "--answer-schema", "{photo}"],
        ["caption", "{photo}", "--address", "one:1,two:2"],
        ["nothing"],
    ],
)
def test_a_wrong_command_ends_with_2_and_calls_nobody(run, scripted_gateway, photo, arguments):
    result = run(*(each.format(photo=photo) for each in arguments))

    assert (result.exit_code, scripted_gateway.attempts) == (2, [])
