"""`vision-gateway annotate`, against a gateway that answers from a script."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2

from tests.fixtures.scripted_gateway import Failure
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

DATA_JSON = {"data": "/9hpbWFnZQ=="}
CAPTION = pb.AnnotateResult(
    answer=pb.TaskAnswer(caption=pb.CaptionResponse(text="a cat", info=call_pb2.CallInfo(model="a", cost_nano_usd=100)))
)
NOT_NOW = pb.AnnotateResult(status=status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="not now"))
CAPTIONED = pb.AnnotateResponse(results=[CAPTION], cost_nano_usd=100)
HALF = pb.AnnotateResponse(results=[CAPTION, NOT_NOW], cost_nano_usd=107)
BROKEN = Failure(grpc.StatusCode.INVALID_ARGUMENT, "image: is no image", "INVALID_IMAGE")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tasks", "caption"], [{"caption": {"detail": "CAPTION_DETAIL_NORMAL"}}]),
        (["--tasks", "ocr, ocr", "--with-regions"], [{"ocr": {"with_regions": True}}] * 2),
        (
            ["--tasks", "detect,classify,ocr", "--label", "cat", "--label", "dog"],
            [{"detect": {"labels": ["cat", "dog"]}}, {"classify": {"labels": ["cat", "dog"]}}, {"ocr": {}}],
        ),
        (["--tasks", "vqa", "--question", "Why?"], [{"vqa": {"question": "Why?"}}]),
        (["--tasks", "prompt", "--prompt", "Count."], [{"prompt": {"prompt": "Count."}}]),
    ],
)
def test_every_task_gets_what_is_its_own(run, scripted_gateway, photo, arguments, expected):
    scripted_gateway.script("Annotate", pb.AnnotateResponse(results=[CAPTION] * len(expected)))

    result = run("annotate", photo, *arguments, "--json")

    sent = MessageToDict(scripted_gateway.attempts[0].request, preserving_proto_field_name=True)
    asked = [
        {name: {key: own for key, own in task.items() if own} for name, task in each.items()} for each in sent["tasks"]
    ]
    assert (result.exit_code, sent["image"], asked) == (0, DATA_JSON, expected)


def test_options_are_those_of_the_whole_call(run, scripted_gateway, photo):
    scripted_gateway.script("Annotate", CAPTIONED)

    run("annotate", photo, "--tasks", "caption", "--model", "a", "--max-cost-usd", "0.01", "--local-only")

    options = scripted_gateway.attempts[0].request.options
    assert (options.model, options.max_cost_nano_usd, options.local_only) == ("a", 10_000_000, True)


def test_people_read_each_answer_or_what_failed_and_what_all_of_them_cost(run, scripted_gateway, photo):
    scripted_gateway.script("Annotate", HALF)

    result = run("annotate", photo, "--tasks", "caption,ocr")

    assert result.stdout.splitlines() == [
        "caption · a · 0 ms · $0.0000001",
        "a cat",
        "ocr",
        "all of them · $0.000000107",
    ]
    assert (result.exit_code, result.stderr) == (1, "UNAVAILABLE: not now\n")


def test_a_line_of_json_has_every_result(run, scripted_gateway, photo):
    scripted_gateway.script("Annotate", HALF)

    (line,) = run("annotate", photo, "--tasks", "caption,ocr", "--json").stdout.splitlines()

    told = json.loads(line)
    caption, ocr = told["results"]
    assert (told["image"], told["cost_nano_usd"]) == (str(photo), 107)
    assert (caption["task"], caption["answer"], caption["error"]) == ("caption", {"text": "a cat"}, None)
    assert (caption["model"], caption["cost_nano_usd"], caption["usage"]["output_token_count"]) == ("a", 100, 0)
    assert ocr == {
        "task": "ocr",
        "answer": None,
        "error": {"code": "UNAVAILABLE", "reason": "", "message": "not now"},
    }


def test_each_image_is_a_call_and_one_that_is_broken_holds_up_no_other(run, scripted_gateway, photo, tmp_path):
    more = [tmp_path / name for name in ("b.jpg", "c.jpg")]
    for path in more:
        path.write_bytes(path.name.encode())
    scripted_gateway.script("Annotate", CAPTIONED, BROKEN, CAPTIONED)

    people = run("annotate", photo, *more, "--tasks", "caption")
    scripted_gateway.script("Annotate", CAPTIONED, BROKEN, CAPTIONED)
    lines = run("annotate", photo, *more, "--tasks", "caption", "--json").stdout.splitlines()

    assert [line for line in people.stdout.splitlines() if line.endswith(".jpg")] == [
        str(each) for each in (photo, *more)
    ]
    assert people.stdout.count("a cat") == 2
    assert (people.exit_code, people.stderr) == (1, "INVALID_IMAGE: image: is no image\n")
    assert [json.loads(line).get("error", {}).get("reason") for line in lines] == [None, "INVALID_IMAGE", None]
    assert json.loads(lines[1])["image"] == str(more[0])


def test_what_fails_for_more_than_an_image_ends_the_command(run, scripted_gateway, photo):
    scripted_gateway.script("Annotate", Failure(grpc.StatusCode.NOT_FOUND, "no model is named x", "UNKNOWN_MODEL"))

    result = run("annotate", photo, photo, "--tasks", "caption", "--model", "x")

    assert (result.exit_code, result.stderr) == (1, "UNKNOWN_MODEL: no model is named x\n")
    assert len(scripted_gateway.attempts) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "caption,translate"], "'translate' is none of caption, ocr, detect, classify, vqa, prompt"),
        (["--tasks", "vqa"], "Invalid value for --question: vqa needs it"),
        (
            ["--tasks", "caption", "--label", "cat"],
            "Invalid value for --label: is of classify and detect, not among --tasks",
        ),
    ],
)
def test_a_command_that_is_wrong_asks_nothing(run, scripted_gateway, photo, arguments, said):
    result = run("annotate", photo, *arguments)

    assert (result.exit_code, scripted_gateway.attempts) == (2, [])
    assert said in result.stderr
