"""Writes a prompt in wire contract v1."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import orjson
from tritonclient.grpc import service_pb2

from gateway.backends._triton_contract import VERSION
from gateway.domain import Reasoning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.domain import Prompt, SentImage

_LENGTH = struct.Struct("<I")
_INT32 = struct.Struct("<i")
_UINT64 = struct.Struct("<Q")
_FP32 = struct.Struct("<f")
_BOOL = struct.Struct("<?")

# `reasoning_output` is left out: nobody reads thoughts, so they need not travel.
READ_OUTPUTS = ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")


def infer_request(
    prompt: Prompt,
    images: Sequence[SentImage],
    *,
    model: str,
    version: str,
    timeout_s: float,
    streaming: bool = False,
) -> service_pb2.ModelInferRequest:
    """Builds the request for *model*; only inputs that are set are sent.

    Raises ValueError when an image's budget is not a number: then the model has the profile of another family.
    """
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=prompt.request_id)
    request.parameters["task"].string_param = prompt.rpc
    request.parameters["contract"].int64_param = VERSION
    request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
    for name, datatype, count, raw in _inputs(prompt, images, streaming=streaming):
        request.inputs.add(name=name, datatype=datatype, shape=(count,))
        request.raw_input_contents.append(raw)
    for name in READ_OUTPUTS:
        request.outputs.add(name=name)
    return request


def _inputs(prompt: Prompt, images: Sequence[SentImage], *, streaming: bool) -> Iterable[tuple[str, str, int, bytes]]:
    yield "text_input", "BYTES", 1, strings(prompt.user.encode())
    yield "streaming", "BOOL", 1, _BOOL.pack(streaming)
    if prompt.system:
        yield "system_prompt", "BYTES", 1, strings(prompt.system.encode())
    if images:
        yield "image_bytes", "BYTES", len(images), strings(*(image.data for image in images))
    # The contract has one budget for all images, so none of them gets less than it was planned.
    budget = max((int(image.plan.budget) for image in images if image.plan.budget), default=None)
    if budget is not None:
        yield "image_token_budget", "INT32", 1, _INT32.pack(budget)
    if prompt.schema is not None:
        yield "guided_json", "BYTES", 1, strings(orjson.dumps(prompt.schema))
    if prompt.reasoning is not Reasoning.NONE:
        yield "enable_thinking", "BOOL", 1, _BOOL.pack(True)  # noqa: FBT003 - a packed value, not a switch
    yield from sampling(prompt)


def sampling(prompt: Prompt) -> Iterable[tuple[str, str, int, bytes]]:
    """Yields the sampling inputs that are set: name, datatype, count and raw content. All wires name them alike."""
    yield "sampling_param_max_tokens", "INT32", 1, _INT32.pack(prompt.max_output_tokens)
    if prompt.temperature is not None:
        yield "sampling_param_temperature", "FP32", 1, _FP32.pack(prompt.temperature)
    if prompt.top_p is not None:
        yield "sampling_param_top_p", "FP32", 1, _FP32.pack(prompt.top_p)
    if prompt.top_k is not None:
        yield "sampling_param_top_k", "INT32", 1, _INT32.pack(prompt.top_k)
    if prompt.seed is not None:
        yield "sampling_param_seed", "UINT64", 1, _UINT64.pack(prompt.seed)


def strings(*values: bytes) -> bytes:
    """Packs a BYTES tensor: each element after its length, a little-endian uint32."""
    return b"".join(part for value in values for part in (_LENGTH.pack(len(value)), value))
