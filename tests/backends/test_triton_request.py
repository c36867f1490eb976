from __future__ import annotations

import struct
from dataclasses import replace

import orjson
import pytest

from gateway.backends import _triton_contract as contract
from gateway.backends._triton_request import infer_request
from gateway.domain import ImagePlan, Prompt, Reasoning, SentImage
from tests.fixtures.kserve import CONTRACT, contract_config, strings

EVERYTHING = Prompt(
    rpc="Detect",
    user="Find cats.",
    system="You see well.",
    max_output_tokens=512,
    schema={"type": "object"},
    reasoning=Reasoning.LOW,
    temperature=0.5,
    top_p=0.25,
    top_k=1,
    seed=2**63 - 1,
    request_id="req-9",
)


def encode(prompt, images=()):
    return infer_request(prompt, images, model="gemma4", version="2", timeout_s=1.5)


def tensors(request):
    return {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}


def test_the_contract_module_says_what_contract_json_says():
    inputs, outputs = (
        tuple(
            contract.Tensor(each["name"], each["datatype"], tuple(each["dims"]), each.get("optional", False))
            for each in CONTRACT[side]
        )
        for side in ("inputs", "outputs")
    )

    assert CONTRACT["version"] == contract.VERSION
    assert inputs == contract.INPUTS
    assert outputs == contract.OUTPUTS


def test_every_tensor_is_of_the_type_and_shape_that_the_contract_gives(images):
    request = encode(EVERYTHING, images * 2)

    wanted = {each["name"]: (each["datatype"], each["dims"]) for each in CONTRACT["inputs"]}
    sent = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in request.inputs}
    assert sent == {
        name: (datatype, [2] if dims == [-1] else dims)
        for name, (datatype, dims) in wanted.items()
        if name != "sampling_param_stop"
    }


def test_values_are_packed_little_endian_and_texts_after_their_length(images):
    assert tensors(encode(EVERYTHING, images)) == {
        "text_input": strings(b"Find cats."),
        "system_prompt": strings(b"You see well."),
        "image_bytes": strings(images[0].data),
        "image_token_budget": struct.pack("<i", 280),
        "guided_json": strings(orjson.dumps({"type": "object"})),
        "enable_thinking": b"\x01",
        "streaming": b"\x00",
        "sampling_param_max_tokens": struct.pack("<i", 512),
        "sampling_param_temperature": struct.pack("<f", 0.5),
        "sampling_param_top_p": struct.pack("<f", 0.25),
        "sampling_param_top_k": struct.pack("<i", 1),
        "sampling_param_seed": struct.pack("<Q", 2**63 - 1),
    }


def test_what_is_not_set_is_not_sent(prompt):
    assert sorted(tensors(encode(prompt))) == ["sampling_param_max_tokens", "streaming", "text_input"]


def test_a_temperature_of_zero_is_set(prompt):
    assert tensors(encode(replace(prompt, temperature=0.0)))["sampling_param_temperature"] == struct.pack("<f", 0)


def test_several_images_are_one_tensor_in_the_callers_order(prompt, images):
    second = replace(images[0], data=b"second")

    assert tensors(encode(prompt, (*images, second)))["image_bytes"] == strings(images[0].data, b"second")


def test_images_of_several_budgets_get_the_largest(prompt):
    both = [SentImage(b"x", "image/png", ImagePlan(1, 1, 1, budget=budget)) for budget in ("70", "1120")]

    assert tensors(encode(prompt, both))["image_token_budget"] == struct.pack("<i", 1120)


def test_an_image_without_a_budget_leaves_it_to_the_model(prompt):
    plain = SentImage(b"x", "image/png", ImagePlan(1, 1, 0))

    assert "image_token_budget" not in tensors(encode(prompt, [plain]))


def test_a_budget_of_another_family_is_no_number(prompt):
    foreign = SentImage(b"x", "image/png", ImagePlan(1, 1, 0, budget="high"))

    with pytest.raises(ValueError, match="high"):
        encode(prompt, [foreign])


def test_the_request_names_model_version_call_and_task():
    request = encode(EVERYTHING)

    assert (request.model_name, request.model_version, request.id) == ("gemma4", "2", "req-9")
    assert (
        request.parameters["task"].string_param,
        request.parameters["contract"].int64_param,
        request.parameters["timeout"].int64_param,
    ) == ("Detect", 1, 1_500_000)


def test_thoughts_are_not_asked_for():
    assert [output.name for output in encode(EVERYTHING).outputs] == [
        each["name"] for each in CONTRACT["outputs"] if each["name"] != "reasoning_output"
    ]


def test_a_model_that_keeps_the_contract_has_no_differences():
    assert list(contract.differences(contract_config())) == []


def _broken(change):
    config = contract_config()
    change(config)
    return list(contract.differences(config))


def _retype(config):
    config.input[3].data_type = contract.model_config_pb2.TYPE_FP32


def _make_required(config):
    config.input[1].optional = False


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        (lambda c: c.ClearField("model_transaction_policy"), ["the model is not decoupled"]),
        (lambda c: setattr(c, "max_batch_size", 8), ["max_batch_size is 8, not 0"]),
        (lambda c: c.input.pop(2), ["input image_bytes is missing"]),
        (lambda c: c.output.pop(4), ["output num_output_tokens is missing"]),
        (_retype, ["input image_token_budget is optional FP32[1], not optional INT32[1]"]),
        (_make_required, ["input system_prompt is BYTES[1], not optional BYTES[1]"]),
        (lambda c: c.output[0].dims.append(2), ["output text_output is BYTES[1, 2], not BYTES[1]"]),
        (lambda c: c.input.add(name="extra"), ["input extra is required but unknown to the contract"]),
        (lambda c: c.input.add(name="extra", optional=True), []),
        (lambda c: c.output.add(name="extra"), []),
    ],
)
def test_each_breach_of_the_contract_is_named(change, differences):
    assert _broken(change) == differences
