"""The wire of NVIDIA's stock `llmapi` model, on a real Triton with a stand-in for that model."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import grpc
import pytest
from structlog.testing import capture_logs
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.backends import _triton_llmapi as llmapi
from gateway.backends.triton import Options, connect
from gateway.domain import ImagePlan, Prompt, Reasoning, SentImage
from gateway.errors import BackendUnavailable, BrokenOff, TruncatedAnswer
from gateway.usage import Usage
from tests.fixtures.kserve import strings

PROMPT = Prompt(rpc="VQA", user="How many?", system="Be short.", max_output_tokens=64, request_id="stock-1")
IMAGES = (
    SentImage(b"\xff\xd8 one", "image/jpeg", ImagePlan(640, 480, token_count=268, budget="280")),
    SentImage(b"\x89PNG two", "image/png", ImagePlan(64, 64, token_count=258, budget="280")),
)


@pytest.fixture(params=["tensorrt_llm", "decoupled"])
async def backend(request, stock):
    async with connect(Options(address=stock, model=request.param, wire="llmapi")) as opened:
        yield opened


async def test_the_stock_model_is_ready(backend):
    assert await backend.ready()


async def test_the_stock_model_gets_one_text_and_the_images_as_data_uris(backend):
    answer = await backend.complete(PROMPT, IMAGES, timeout_s=10)

    told = json.loads(answer.text)
    assert told["text"] == "Be short.\n\nHow many?"
    assert told["images"] == [
        f"data:image/jpeg;base64,{base64.b64encode(IMAGES[0].data).decode()}",
        f"data:image/png;base64,{base64.b64encode(IMAGES[1].data).decode()}",
    ]


async def test_the_stock_model_gets_the_sampling_that_is_set_and_answers_in_one_part(backend):
    asked = replace(PROMPT, temperature=0.5, top_p=0.25, top_k=3, seed=2**63)

    told = json.loads((await backend.complete(asked, (), timeout_s=10)).text)

    assert told["streaming"] is False
    assert told["sampling"] == {
        "best_of": None,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.25,
        "frequency_penalty": None,
        "presence_penalty": None,
        "max_tokens": 64,
        "seed": 2**63,
    }


async def test_what_the_stock_model_has_no_place_for_is_left_out(backend):
    asked = replace(PROMPT, schema={"type": "object"}, reasoning=Reasoning.HIGH)

    assert json.loads((await backend.complete(asked, (), timeout_s=10)).text)["text"] == "Be short.\n\nHow many?"


async def test_tokens_are_estimated_where_the_stock_model_tells_none(backend):
    answer = await backend.complete(PROMPT, IMAGES, timeout_s=10)

    # 20 bytes of text, and the images by the family's rule.
    assert answer.usage == Usage(input_text=5, input_image=526, output=-(-len(answer.text) // 4))
    assert answer.estimated


async def test_the_model_that_answered_is_named(backend):
    name = (await backend.complete(PROMPT, (), timeout_s=10)).provider_model

    assert name in {"tensorrt_llm/1", "decoupled/1"}


@pytest.mark.parametrize("reason", ["length", "timeout", "cancelled"])
async def test_a_cut_answer_of_the_stock_model_is_none(backend, reason):
    with pytest.raises(TruncatedAnswer) as caught:
        await backend.complete(replace(PROMPT, user=reason), (), timeout_s=10)

    assert (caught.value.estimated, caught.value.usage.input_text > 0) == (True, True)


async def test_a_failure_of_the_stock_model_is_one_of_the_backend(backend):
    with pytest.raises(BackendUnavailable):
        await backend.complete(replace(PROMPT, user="fail"), (), timeout_s=10)


async def test_a_model_of_our_own_contract_is_not_taken_for_a_stock_one(kserve):
    async with connect(Options(address=kserve.address, wire="llmapi")) as backend:
        with capture_logs() as logs, pytest.raises(BackendUnavailable):
            await backend.complete(PROMPT, IMAGES, timeout_s=5)

    (broken,) = [line for line in logs if line["event"] == "triton_contract_broken"]
    assert "input image_url is missing" in broken["differences"]


async def test_a_stock_release_without_images_is_told_by_name(stock):
    async with grpc.aio.insecure_channel(stock) as channel:
        server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = (await server.ModelConfig(service_pb2.ModelConfigRequest(name="tensorrt_llm"))).config
    kept = [tensor for tensor in found.input if tensor.name != "image_url"]
    older = model_config_pb2.ModelConfig(input=kept, output=found.output)

    assert list(llmapi.differences(older)) == ["input image_url is missing"]


def part(text, finish_reason):
    reply = service_pb2.ModelInferResponse()
    for name, value in (("text_output", text), ("finish_reason", finish_reason)):
        reply.outputs.add(name=name, datatype="BYTES", shape=(1,))
        reply.raw_output_contents.append(strings(value))
    return reply


def test_each_part_of_a_stock_answer_replaces_those_before_it():
    answer = llmapi.EstimatedAnswer(PROMPT, ())

    for text, reason in ((b"a", b"None"), (b"a cat", b"None"), (b"a cat sits", b"stop")):
        answer.add(part(text, reason), 0.5)

    assert answer.completion().text == "a cat sits"


def test_a_stock_answer_without_its_end_is_a_cut_one():
    answer = llmapi.EstimatedAnswer(PROMPT, ())

    answer.add(part(b"a cat", b"None"), 0.5)

    with pytest.raises(BrokenOff):
        answer.completion()
