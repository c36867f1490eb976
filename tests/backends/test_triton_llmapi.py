"""The wire of NVIDIA's stock `llmapi` model, on a real Triton with a stand-in for that model.

The stand-in has the tensors of triton_backend/all_models/llmapi/tensorrt_llm/config.pbtxt in NVIDIA/TensorRT-LLM at
commit 0a71057 (2026), and the manners of the model.py beside it: each text repeats those before it, `finish_reason` is
`None` until the end, every failure is an internal one. It has no language model: it answers with what it was sent.
"""

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
from gateway.errors import BackendUnavailable, TruncatedAnswer
from gateway.tritonserver import TritonUnavailable
from gateway.usage import Usage
from tests.fixtures.kserve import strings
from tests.fixtures.triton import running

MODEL = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
NAMES = ["best_of", "temperature", "top_k", "top_p", "frequency_penalty", "presence_penalty", "max_tokens", "seed"]

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request)

    def answer(self, request):
        def value(name):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            return None if tensor is None else tensor.as_numpy()
        def scalar(name):
            found = value(name)
            return None if found is None else found.item()
        sender = request.get_response_sender()
        text = value("text_input")[0].decode()
        if "fail" in text:
            error = pb_utils.TritonError("Error generating request: it broke")
            sender.send(pb_utils.InferenceResponse([], error), flags=FINAL)
            return
        urls = value("image_url")
        told = {
            "text": text,
            "images": [] if urls is None else [url.decode() for url in urls],
            "streaming": scalar("streaming"),
            "sampling": {name: scalar("sampling_param_" + name) for name in NAMES},
        }
        written = ("" if scalar("sampling_param_exclude_input_from_output") else text) + json.dumps(told)
        reason = next((word for word in ("length", "timeout", "cancelled") if word in text), "stop")
        outputs = [pb_utils.Tensor("text_output", np.asarray([written.encode()], dtype=np.object_))]
        if scalar("return_finish_reason"):
            outputs.append(pb_utils.Tensor("finish_reason", np.asarray([reason], dtype=np.object_)))
        sender.send(pb_utils.InferenceResponse(outputs), flags=FINAL)
"""
OPTIONAL = {
    "STRING [-1]": ["image_url", "sampling_param_stop"],
    "STRING [1]": ["lora_name", "lora_path", "lora_ckpt_source"],
    "BOOL [1]": [
        *("streaming", "sampling_param_exclude_input_from_output", "sampling_param_return_perf_metrics", "stop"),
        *("return_finish_reason", "return_stop_reason", "return_cumulative_logprob"),
    ],
    "INT32 [1]": ["sampling_param_best_of", "sampling_param_top_k", "sampling_param_max_tokens"],
    "FP32 [1]": [
        *("sampling_param_temperature", "sampling_param_top_p"),
        *("sampling_param_frequency_penalty", "sampling_param_presence_penalty"),
    ],
    "UINT64 [1]": ["sampling_param_seed", "lora_id"],
}
OUTPUTS = {
    "STRING [-1]": ["text_output", "finish_reason", "stop_reason"],
    "FP32 [-1]": ["cumulative_logprob", "kv_cache_hit_rate"],
    "INT32 [-1]": [
        *("kv_cache_reused_block", "kv_cache_missed_block"),
        *("kv_cache_alloc_new_blocks", "kv_cache_alloc_total_blocks"),
    ],
    "INT64 [1]": ["arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns"],
    "FP32 [1]": ["acceptance_rate"],
    "INT32 [1]": ["total_accepted_draft_tokens", "total_draft_tokens"],
}
PROMPT = Prompt(rpc="VQA", user="How many?", system="Be short.", max_output_tokens=64, request_id="stock-1")
IMAGES = (
    SentImage(b"\xff\xd8 one", "image/jpeg", ImagePlan(640, 480, token_count=268, budget="280")),
    SentImage(b"\x89PNG two", "image/png", ImagePlan(64, 64, token_count=258, budget="280")),
)


def tensors(side, table, more=""):
    for kind, names in table.items():
        datatype, dims = kind.split(" ")
        for name in names:
            yield f'{side} {{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} {more} }}'


def config(name, *, decoupled):
    return "\n".join(
        [
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\ninstance_group {{ kind: KIND_CPU }}',
            f"model_transaction_policy {{ decoupled: {str(decoupled).lower()} }}",
            *tensors("input", {"STRING [-1]": ["text_input"]}),
            *tensors("input", OPTIONAL, "optional: true"),
            *tensors("output", OUTPUTS),
        ]
    )


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Address of a Triton with two stand-ins: `tensorrt_llm`, as the stock repository has it, and `decoupled`."""
    repository = tmp_path_factory.mktemp("stock")
    for name in ("tensorrt_llm", "decoupled"):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1/model.py").write_text(MODEL)
        (repository / name / "config.pbtxt").write_text(config(name, decoupled=name == "decoupled"))
    try:
        with running(repository=repository, models=("tensorrt_llm", "decoupled")) as server:
            yield server.grpc_address
    except TritonUnavailable as error:
        pytest.skip(str(error))


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
    with pytest.raises(TruncatedAnswer):
        await backend.complete(replace(PROMPT, user=reason), (), timeout_s=10)


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

    with pytest.raises(TruncatedAnswer):
        answer.completion()
