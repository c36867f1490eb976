"""Both clients hand out the results of several tasks and of several models, and the list of models."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from tests.client.test_client_calls import IMAGE, IMAGE_JSON, TWINS
from tests.fixtures.scripted_gateway import Failure
from visiongateway import AsyncVisionClient, Refused, Unsupported, UnusableAnswer, VisionClient, VisionError
from visiongateway.v1 import call_pb2, model_pb2, vision_service_pb2 as pb

Code = grpc.StatusCode


def status(code, message, reason):
    made = status_pb2.Status(code=code.value[0], message=message)
    made.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="visiongateway"))
    return made


@TWINS
def test_every_task_of_an_annotation_reaches_its_field(scripted_gateway, call):
    tasks = [
        "caption",
        ("detect", {"labels": ["cat"], "model": "gemma"}),
        ("vqa", {"question": "Same?", "images": [IMAGE]}),
    ]

    call(scripted_gateway.address, "annotate", IMAGE, tasks, seed=3, request_id="order-7")

    (attempt,) = scripted_gateway.attempts
    assert attempt.metadata["x-request-id"] == "order-7"
    assert MessageToDict(attempt.request, preserving_proto_field_name=True) == {
        "image": IMAGE_JSON,
        "options": {"seed": "3"},
        "tasks": [
            {"caption": {"options": {}, "detail": "CAPTION_DETAIL_NORMAL"}},
            {"detect": {"options": {"model": "gemma"}, "labels": ["cat"]}},
            {"vqa": {"options": {}, "question": "Same?", "images": [IMAGE_JSON]}},
        ],
    }


@TWINS
def test_the_results_of_an_annotation_are_answers_and_errors_in_order(scripted_gateway, call):
    caption = pb.CaptionResponse(text="a cat")
    response = pb.AnnotateResponse(
        results=[
            pb.AnnotateResult(answer=pb.TaskAnswer(caption=caption)),
            pb.AnnotateResult(status=status(Code.FAILED_PRECONDITION, "No such labels.", "UNSUPPORTED_BY_MODEL")),
        ],
        usage=call_pb2.Usage(output_token_count=7),
        cost_nano_usd=42,
    )
    scripted_gateway.script("Annotate", response)

    done = call(scripted_gateway.address, "annotate", IMAGE, ["caption", "detect"], request_id="order-7")

    answer, error = done.results
    assert (answer, done.usage.output_token_count, done.cost_nano_usd) == (caption, 7, 42)
    assert (type(error), str(error)) == (Unsupported, "UNSUPPORTED_BY_MODEL: No such labels.")
    assert (error.code, error.request_id) == (Code.FAILED_PRECONDITION, "order-7")


@TWINS
@pytest.mark.parametrize(
    ("tasks", "kind", "message"),
    [
        ("caption", TypeError, r"tasks are several, such as \['caption'\], not one"),
        (["translate"], ValueError, "task is one of .*; not 'translate'"),
        ([("caption", {"modle": "x"})], TypeError, "caption has no modle; besides options it has detail, language"),
        (["vqa"], TypeError, "vqa needs question"),
        ([("caption", {"timeout": 3})], TypeError, "timeout is one of the whole call, not of its task caption"),
    ],
)
def test_wrong_tasks_are_told_before_anything_is_sent(scripted_gateway, call, tasks, kind, message):
    with pytest.raises(kind, match=message):
        call(scripted_gateway.address, "annotate", IMAGE, tasks)

    assert scripted_gateway.attempts == []


def compare_sync(address, *arguments, **keywords):
    """Gives the rows, and the comparison."""
    with VisionClient(address) as client, client.compare(*arguments, **keywords) as comparison:
        return list(comparison), comparison


def compare_async(address, *arguments, **keywords):
    async def compare():
        async with AsyncVisionClient(address) as client, client.compare(*arguments, **keywords) as comparison:
            return [row async for row in comparison], comparison

    return asyncio.run(compare())


COMPARED = pytest.mark.parametrize("compare", [compare_sync, compare_async], ids=["sync", "async"])
AGREEMENT = pb.CompareResponse(
    agreement=pb.Agreement(pairs=[pb.PairAgreement(first_model="gemma", second_model="gpt", score=0.5)])
)


@COMPARED
def test_a_comparison_has_a_row_for_each_model_and_then_the_agreement(scripted_gateway, compare):
    caption = pb.CaptionResponse(text="a cat")
    info = call_pb2.CallInfo(request_id="order-7", cost_nano_usd=11)
    rows = [
        pb.CompareResponse(model="gemma", answer=pb.TaskAnswer(caption=caption), info=call_pb2.CallInfo(model="gemma")),
        pb.CompareResponse(model="gpt", status=status(Code.FAILED_PRECONDITION, "No.", "REFUSED"), info=info),
    ]
    scripted_gateway.script("Compare", [*rows, AGREEMENT])

    (answered, failed), comparison = compare(scripted_gateway.address, "caption", IMAGE)

    assert (answered.model, answered.answer, answered.error) == ("gemma", caption, None)
    assert (failed.model, failed.answer, failed.info.cost_nano_usd) == ("gpt", None, 11)
    error = failed.error
    assert (type(error), error.model, error.request_id, error.cost_nano_usd) == (Refused, "gpt", "order-7", 11)
    assert comparison.agreement.pairs[0].score == 0.5


@COMPARED
def test_a_comparison_takes_what_the_call_takes_and_the_models(scripted_gateway, compare):
    scripted_gateway.script("Compare", [AGREEMENT])

    compare(
        scripted_gateway.address, "vqa", IMAGE, ["gemma", "gpt"], question="Same?", images=[IMAGE], seed=3, timeout=20
    )

    (attempt,) = scripted_gateway.attempts
    assert attempt.time_left == pytest.approx(20, abs=5)
    assert MessageToDict(attempt.request, preserving_proto_field_name=True) == {
        "vqa": {"image": IMAGE_JSON, "images": [IMAGE_JSON], "options": {"seed": "3"}, "question": "Same?"},
        "models": ["gemma", "gpt"],
    }


@COMPARED
def test_what_fails_for_all_models_of_a_comparison_is_raised(scripted_gateway, compare):
    scripted_gateway.script("Compare", Failure(Code.FAILED_PRECONDITION, "Nobody can.", "UNSUPPORTED_BY_MODEL"))

    with pytest.raises(Unsupported, match="Nobody can"):
        compare(scripted_gateway.address, "caption", IMAGE)


@COMPARED
def test_a_comparison_that_ends_without_its_agreement_failed(scripted_gateway, compare):
    scripted_gateway.script("Compare", [pb.CompareResponse(model="gemma", answer=pb.TaskAnswer())])

    with pytest.raises(UnusableAnswer, match="before the whole answer"):
        compare(scripted_gateway.address, "caption", IMAGE)


def test_the_agreement_is_not_there_before_the_end(scripted_gateway):
    scripted_gateway.script("Compare", [AGREEMENT])

    with (
        VisionClient(scripted_gateway.address) as client,
        client.compare("caption", IMAGE) as comparison,
        pytest.raises(RuntimeError, match="was not read to its end"),
    ):
        _ = comparison.agreement


@TWINS
def test_the_models_are_listed(scripted_gateway, call):
    listed = pb.ListModelsResponse(models=[model_pb2.Model(name="gemma")])
    scripted_gateway.script("ListModels", listed)

    assert call(scripted_gateway.address, "list_models", timeout=20, request_id="order-7") == listed
    (attempt,) = scripted_gateway.attempts
    assert attempt.metadata["x-request-id"] == "order-7"


@TWINS
def test_what_fails_of_the_list_is_raised(scripted_gateway, call):
    scripted_gateway.script("ListModels", Failure(Code.UNAUTHENTICATED, "Who are you?", "UNAUTHENTICATED"))

    with pytest.raises(VisionError, match="Who are you"):
        call(scripted_gateway.address, "list_models")
