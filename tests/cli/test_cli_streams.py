"""`--stream` prints the text as it comes, against a gateway that answers from a script."""

from __future__ import annotations

import json

import grpc
import pytest

from gateway.cli import output
from tests.fixtures.scripted_gateway import Failure
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

INFO = call_pb2.CallInfo(model="gemma", cost_nano_usd=11_140_000)
INFO.timing.total.FromMilliseconds(812)
DIM = "gemma · 812 ms · $0.01114\n"


def pieces(rpc, *texts, answer):
    """The messages of a stream of *rpc*."""
    kind = getattr(pb, f"Stream{rpc}Response")
    return [*(kind(delta=text) for text in texts), kind(answer=answer)]


@pytest.mark.parametrize(
    ("arguments", "rpc", "answer"),
    [
        (["caption"], "Caption", pb.CaptionResponse(text="A cat.", info=INFO)),
        (["ocr"], "OCR", pb.OCRResponse(text="A cat.", info=INFO)),
        (["vqa", "What?"], "VQA", pb.VQAResponse(answer="A cat.", info=INFO)),
        (["prompt", "Say what."], "Prompt", pb.PromptResponse(text="A cat.", info=INFO)),
    ],
)
def test_the_text_of_a_stream_is_printed_and_then_who_wrote_it(run, scripted_gateway, photo, arguments, rpc, answer):
    scripted_gateway.script(f"Stream{rpc}", pieces(rpc, "A ", "cat.", answer=answer))
    command, *rest = arguments

    result = run(command, photo, *rest, "--stream")

    assert (result.exit_code, result.stdout) == (0, f"A cat.\n{DIM}")


def test_each_piece_is_printed_when_it_comes(capsys):
    seen = []

    def written():
        for piece in ("A ", "cat."):
            yield piece
            seen.append(capsys.readouterr().out)

    output.write(written())

    assert (seen, capsys.readouterr().out) == (["A ", "cat."], "\n")


def test_a_stream_without_text_says_so_as_the_call_does(run, scripted_gateway, photo):
    scripted_gateway.script("StreamOCR", pieces("OCR", answer=pb.OCRResponse(info=INFO)))

    assert run("ocr", photo, "--stream").stdout == f"(no text found)\n{DIM}"


def test_what_came_before_a_failure_is_printed_and_the_failure_told(run, scripted_gateway, photo):
    broken = Failure(grpc.StatusCode.DATA_LOSS, "The stream broke.", "TRUNCATED_ANSWER", {"partial": "true"})
    scripted_gateway.script("StreamCaption", [pb.StreamCaptionResponse(delta="A cat"), broken])

    result = run("caption", photo, "--stream")

    assert (result.exit_code, result.stdout) == (1, "A cat\n")
    assert result.stderr == "TRUNCATED_ANSWER: The stream broke.\n"


def test_what_a_model_writes_piece_by_piece_is_obeyed_by_no_terminal(run, scripted_gateway, photo):
    answer = pb.CaptionResponse(text="\x1b[31mred", info=INFO)
    scripted_gateway.script("StreamCaption", pieces("Caption", "\x1b", "[31mred [b]", answer=answer))

    assert run("caption", photo, "--stream").stdout == f"�[31mred [b]\n{DIM}"


def test_json_of_a_stream_is_the_whole_answer_and_no_more(run, scripted_gateway, photo):
    scripted_gateway.script("Caption", pb.CaptionResponse(text="A cat."))

    assert json.loads(run("caption", photo, "--stream", "--json").stdout) == {"text": "A cat."}


def test_a_quote_of_a_stream_is_that_of_the_call(run, scripted_gateway, photo):
    run("caption", photo, "--stream", "--quote")

    assert [attempt.rpc for attempt in scripted_gateway.attempts] == ["Quote"]


def test_a_schema_that_is_none_is_told_by_its_option(run, photo, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text("[]")

    result = run("prompt", photo, "Say what.", "--schema", schema)

    assert (result.exit_code, "--schema" in result.stderr, "holds no JSON object" in result.stderr) == (2, True, True)
