"""`vision-gateway compare`, against a gateway that answers from a script."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2

from tests.fixtures.scripted_gateway import Failure
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

DATA_JSON = {"data": "/9hpbWFnZQ=="}


def answered(model, text, **info):
    answer = pb.TaskAnswer(caption=pb.CaptionResponse(text=text))
    return pb.CompareResponse(model=model, answer=answer, info=call_pb2.CallInfo(model=model, **info))


REFUSED = pb.CompareResponse(
    model="c",
    status=status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="not now"),
    info=call_pb2.CallInfo(cost_nano_usd=7),
)
AGREED = pb.CompareResponse(
    agreement=pb.Agreement(pairs=[pb.PairAgreement(first_model="a", second_model="b", score=0.5)])
)
ROWS = [answered("b", "a cat", cost_nano_usd=100), answered("a", "a dog"), REFUSED, AGREED]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--task", "caption"], {"caption": {"detail": "CAPTION_DETAIL_NORMAL"}}),
        (["--task", "detect", "--label", "cat"], {"detect": {"labels": ["cat"]}}),
        (["--task", "vqa", "--question", "Why?"], {"vqa": {"question": "Why?"}}),
        (["--task", "ocr", "--with-regions"], {"ocr": {"with_regions": True}}),
        (["--task", "ocr", "--model", "a", "--model", "b"], {"ocr": {}, "models": ["a", "b"]}),
        (["--task", "ocr", "--local-only"], {"ocr": {"options": {"local_only": True}}}),
    ],
)
def test_every_argument_reaches_its_field(run, scripted_gateway, photo, arguments, expected):
    scripted_gateway.script("Compare", [*ROWS])

    result = run("compare", photo, *arguments, "--json")

    sent = MessageToDict(scripted_gateway.attempts[0].request, preserving_proto_field_name=True)
    (task,) = sent.keys() - {"models"}
    assert sent[task].pop("image") == DATA_JSON
    sent[task] = {name: value for name, value in sent[task].items() if value}
    assert (result.exit_code, sent) == (0, expected)


def test_one_document_has_every_row_and_the_agreement(run, scripted_gateway, photo):
    scripted_gateway.script("Compare", [*ROWS])

    document = json.loads(run("compare", photo, "--task", "caption", "--json").stdout)

    rows = [(row["model"], row["answer"], row["error"], row["cost_nano_usd"]) for row in document["models"]]
    assert rows == [
        ("b", {"text": "a cat"}, None, 100),
        ("a", {"text": "a dog"}, None, 0),
        ("c", None, {"code": "UNAVAILABLE", "reason": "", "message": "not now"}, 7),
    ]
    assert document["agreement"]["scores"] == {"a": {"b": 0.5}, "b": {"a": 0.5}}
    assert (document["cost_nano_usd"], document["task"]) == (107, "caption")


def test_people_read_each_answer_and_how_far_they_agree(run, scripted_gateway, photo):
    scripted_gateway.script("Compare", [*ROWS])

    result = run("compare", photo, "--task", "caption")

    assert result.stdout.splitlines() == [
        "b · 0 ms · $0.0000001",
        "a cat",
        "a · 0 ms · $0",
        "a dog",
        "c · 0 ms · $0.000000007",
        "a and b agree to 50%",
    ]
    assert "UNAVAILABLE: not now" in result.stderr


def test_where_no_model_answers_the_command_fails(run, scripted_gateway, photo):
    scripted_gateway.script("Compare", [REFUSED, pb.CompareResponse(agreement=pb.Agreement())])

    assert run("compare", photo, "--task", "caption").exit_code == 1


def test_what_fails_for_all_models_is_told_in_a_line(run, scripted_gateway, photo):
    scripted_gateway.script("Compare", Failure(grpc.StatusCode.NOT_FOUND, "no model is named x", "UNKNOWN_MODEL"))

    result = run("compare", photo, "--task", "caption", "--model", "x")

    assert (result.exit_code, result.stderr) == (1, "UNKNOWN_MODEL: no model is named x\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "vqa"], "Invalid value: vqa needs question"),
        (
            ["--task", "caption", "--label", "cat"],
            "Invalid value: caption has no labels; besides options it has detail",
        ),
    ],
)
def test_what_does_not_fit_the_task_is_told_before_anything_is_sent(run, scripted_gateway, photo, arguments, said):
    result = run("compare", photo, *arguments)

    assert (result.exit_code, scripted_gateway.attempts) == (2, [])
    assert said in result.stderr
