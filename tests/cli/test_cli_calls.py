"""The commands that call a gateway, against one that answers from a script."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import MessageToDict

from visiongateway.v1 import call_pb2, geometry_pb2, vision_service_pb2 as pb

DATA = b"\xff\xd8image"
DATA_JSON = {"data": "/9hpbWFnZQ=="}
NOBODY = "127.0.0.1:1"  # A port that nothing listens on.


@pytest.mark.parametrize(
    ("arguments", "rpc", "expected"),
    [
        (["caption"], "Caption", {"detail": "CAPTION_DETAIL_NORMAL"}),
        (
            ["caption", "--detail", "long", "--language", "de"],
            "Caption",
            {"detail": "CAPTION_DETAIL_LONG", "language": "de"},
        ),
        (["ocr"], "OCR", {}),
        (
            ["ocr", "--with-regions", "--language", "de", "--language", "en"],
            "OCR",
            {"with_regions": True, "languages": ["de", "en"]},
        ),
        (["detect"], "Detect", {}),
        (
            ["detect", "--label", "cat", "--label", "dog", "--prompt", "on the sofa", "--max-detections", 3],
            "Detect",
            {"labels": ["cat", "dog"], "prompt": "on the sofa", "max_detections": 3},
        ),
        (["classify"], "Classify", {}),
        (
            ["classify", "--label", "a", "--label", "b", "--multi-label", "--max-labels", 2],
            "Classify",
            {"labels": ["a", "b"], "multi_label": True, "max_labels": 2},
        ),
        (["vqa", "How many?"], "VQA", {"question": "How many?"}),
        (
            ["prompt", "Describe it.", "--system", "Be terse."],
            "Prompt",
            {"prompt": "Describe it.", "system": "Be terse."},
        ),
    ],
)
def test_every_argument_reaches_its_field(run, scripted_gateway, photo, arguments, rpc, expected):
    command, *rest = arguments
    result = run(command, photo, *rest)

    (attempt,) = scripted_gateway.attempts
    sent = MessageToDict(attempt.request, preserving_proto_field_name=True)
    assert (result.exit_code, attempt.rpc, sent) == (0, rpc, {"image": DATA_JSON, "options": {}} | expected)


@pytest.mark.parametrize(
    ("command", "option", "field"),
    [("vqa", "--answer-schema", "answer_schema"), ("prompt", "--schema", "response_schema")],
)
def test_more_images_and_a_schema_reach_their_fields(run, scripted_gateway, photo, tmp_path, command, option, field):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')

    run(command, photo, "Same?", "--image", photo, "--image", photo, option, schema)

    sent = MessageToDict(scripted_gateway.attempts[0].request, preserving_proto_field_name=True)
    assert (sent["images"], sent[field]) == ([DATA_JSON, DATA_JSON], {"type": "object"})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "gpt-5.5"], {"model": "gpt-5.5"}),
        (["--route", "fast"], {"route": "fast"}),
        (["--priority", "cost"], {"priority": "PRIORITY_COST"}),
        (["--max-cost-usd", "0.1"], {"max_cost_nano_usd": "100000000"}),
        (["--image-detail", "max"], {"image_detail": "IMAGE_DETAIL_MAX"}),
        (["--reasoning", "low"], {"reasoning": "REASONING_LOW"}),
        (["--max-output-tokens", "64"], {"max_output_tokens": 64}),
        (["--temperature", "0"], {"temperature": 0.0}),
        (["--seed", "7"], {"seed": "7"}),
        (["--allow-fallback"], {"allow_fallback": True}),
        (["--no-allow-fallback"], {"allow_fallback": False}),
        (["--cache", "bypass"], {"cache": "CACHE_POLICY_BYPASS"}),
        (["--local-only"], {"local_only": True}),
        (["--service-tier", "flex"], {"service_tier": "SERVICE_TIER_FLEX"}),
    ],
)
def test_every_option_of_a_call_reaches_its_field(run, scripted_gateway, photo, arguments, expected):
    run("detect", photo, *arguments)

    sent = MessageToDict(scripted_gateway.attempts[0].request.options, preserving_proto_field_name=True)
    assert sent == expected


def test_every_option_of_the_contract_has_one_on_the_command_line(run):
    # The limit in nano-dollars is given in dollars.
    fields = set(call_pb2.CallOptions.DESCRIPTOR.fields_by_name) - {"max_cost_nano_usd"} | {"max_cost_usd"}

    help_text = run("caption", "--help").output

    assert {name for name in fields if f"--{name.replace('_', '-')} " not in help_text} == set()


def test_deadline_and_request_id_go_with_the_call(run, scripted_gateway, photo):
    run("detect", photo, "--timeout", 20, "--request-id", "order-7")

    (attempt,) = scripted_gateway.attempts
    assert attempt.metadata["x-request-id"] == "order-7"
    assert attempt.time_left == pytest.approx(20, abs=5)


INFO = call_pb2.CallInfo(model="gemma", cost_nano_usd=11_140_000)
INFO.timing.total.FromMilliseconds(812)


@pytest.mark.parametrize(
    ("arguments", "response", "expected"),
    [
        (["caption"], pb.CaptionResponse(text="A cat.", info=INFO), "A cat."),
        (["ocr"], pb.OCRResponse(text="one\ntwo", info=INFO), "one\ntwo"),
        (["ocr"], pb.OCRResponse(info=INFO), "(no text found)"),
        (
            ["ocr", "--with-regions"],
            pb.OCRResponse(text="one", lines=[pb.TextLine(text="one", score=0.5), pb.TextLine(text="two")], info=INFO),
            "one 0.50\ntwo",
        ),
        (
            ["detect"],
            pb.DetectResponse(
                detections=[
                    pb.Detection(
                        label="cat",
                        score=0.91,
                        box=geometry_pb2.BoundingBox(x_min=0.1, y_min=0.2, x_max=0.3, y_max=0.4),
                    ),
                    pb.Detection(label="dog"),
                ],
                info=INFO,
            ),
            "cat 0.91  x 0.100-0.300, y 0.200-0.400\ndog  x 0.000-0.000, y 0.000-0.000",
        ),
        (["detect"], pb.DetectResponse(info=INFO), "(no object found)"),
        (
            ["classify"],
            pb.ClassifyResponse(labels=[pb.Label(label="cup", score=0.5), pb.Label(label="mug")], info=INFO),
            "cup 0.50\nmug",
        ),
        (["vqa", "How many?"], pb.VQAResponse(answer="Two.", info=INFO), "Two."),
        (["prompt", "Count them."], pb.PromptResponse(text="Two.", info=INFO), "Two."),
    ],
)
def test_an_answer_is_printed_with_model_latency_and_cost(run, scripted_gateway, photo, arguments, response, expected):
    command, *rest = arguments
    scripted_gateway.script(response.DESCRIPTOR.name.removesuffix("Response"), response)

    result = run(command, photo, *rest)

    assert (result.exit_code, result.stdout) == (0, f"{expected}\ngemma · 812 ms · $0.01114\n")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("[bold]no markup[/bold] [/]", "[bold]no markup[/bold] [/]"),
        (":cat:", ":cat:"),
        ("long " * 100, "long " * 100),
        ("first\n\tsecond", "first\n\tsecond"),
        ("\x1b[31mred\x07\r\x9b", "�[31mred���"),
    ],
)
def test_what_a_model_wrote_is_printed_as_text_and_obeyed_by_no_terminal(run, scripted_gateway, photo, text, printed):
    scripted_gateway.script("Caption", pb.CaptionResponse(text=text, info=INFO))

    assert (
        run("caption", photo).stdout.removesuffix("\ngemma · 812 ms · $0.01114\n").expandtabs() == printed.expandtabs()
    )


def test_json_is_the_whole_answer_and_no_more(run, scripted_gateway, photo):
    scripted_gateway.script("Caption", pb.CaptionResponse(text="A \x1b cat.", info=INFO))

    result = run("caption", photo, "--json")

    assert json.loads(result.stdout) == {
        "text": "A \x1b cat.",
        "info": {"model": "gemma", "costNanoUsd": "11140000", "timing": {"total": "0.812s"}},
    }


def test_several_addresses_may_be_given(run, start_scripted_gateway, photo):
    gateways = [start_scripted_gateway(), start_scripted_gateway()]

    result = run("caption", photo, "--address", ",".join(each.address for each in gateways))

    assert (result.exit_code, sum(len(each.attempts) for each in gateways)) == (0, 1)
