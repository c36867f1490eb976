"""The wire of the `llmapi` model in TensorRT-LLM's Triton repository, as its own config.pbtxt has it.

Source: github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models/llmapi/tensorrt_llm, commit 0a71057. It takes images
only with `multimodal: True` in its model.yaml, which is in no release before 1.3; it then applies the checkpoint's chat
template itself. Against contract v1 it has no system prompt, no schema, no image budget (that of the checkpoint holds),
no thinking, and it tells no token counts.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pybase64
from tritonclient.grpc import service_pb2

from gateway.backends import _triton_contract
from gateway.backends._triton_answer import PartialAnswer
from gateway.backends._triton_contract import Tensor
from gateway.backends._triton_request import sampling, strings
from gateway.usage import BYTES_PER_TOKEN, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonclient.grpc import model_config_pb2

    from gateway.domain import Prompt, SentImage

_BOOL = struct.Struct("<?")

# Of its inputs and outputs, those that the gateway uses.
INPUTS = (
    Tensor("text_input", "BYTES", (-1,)),
    Tensor("image_url", "BYTES", (-1,), optional=True),
    Tensor("streaming", "BOOL", optional=True),
    Tensor("sampling_param_max_tokens", "INT32", optional=True),
    Tensor("sampling_param_temperature", "FP32", optional=True),
    Tensor("sampling_param_top_p", "FP32", optional=True),
    Tensor("sampling_param_top_k", "INT32", optional=True),
    Tensor("sampling_param_seed", "UINT64", optional=True),
    Tensor("sampling_param_exclude_input_from_output", "BOOL", optional=True),
    Tensor("return_finish_reason", "BOOL", optional=True),
)
OUTPUTS = (Tensor("text_output", "BYTES", (-1,)), Tensor("finish_reason", "BYTES", (-1,)))


def differences(config: model_config_pb2.ModelConfig) -> Iterator[str]:
    """Yields what in a served model's configuration breaks this wire. Decoupled or not, as model.yaml says, it works.

    A release without images is found by its missing `image_url`.
    """
    return _triton_contract.differences(config, INPUTS, OUTPUTS, decoupled=False)


def infer_request(
    prompt: Prompt,
    images: Sequence[SentImage],
    *,
    model: str,
    version: str,
    timeout_s: float,  # noqa: ARG001 - the model reads no limit; it notices that a call has ended
    streaming: bool = False,
) -> service_pb2.ModelInferRequest:
    """Builds the request for *model*. The system's words go before the user's, as one text."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=prompt.request_id)
    for name, datatype, count, raw in _inputs(prompt, images, streaming=streaming):
        request.inputs.add(name=name, datatype=datatype, shape=(count,))
        request.raw_input_contents.append(raw)
    for output in OUTPUTS:
        request.outputs.add(name=output.name)
    return request


def _inputs(prompt: Prompt, images: Sequence[SentImage], *, streaming: bool) -> Iterator[tuple[str, str, int, bytes]]:
    yield "text_input", "BYTES", 1, strings(_text(prompt))
    if images:
        yield "image_url", "BYTES", len(images), strings(*map(_data_uri, images))
    yield "streaming", "BOOL", 1, _BOOL.pack(streaming)
    # By default the model repeats the prompt and keeps to itself why it stopped.
    yield "sampling_param_exclude_input_from_output", "BOOL", 1, _BOOL.pack(True)  # noqa: FBT003 - a packed value
    yield "return_finish_reason", "BOOL", 1, _BOOL.pack(True)  # noqa: FBT003 - a packed value, not a switch
    yield from sampling(prompt)


def _text(prompt: Prompt) -> bytes:
    return "\n\n".join(filter(None, (prompt.system, prompt.user))).encode()


def _data_uri(image: SentImage) -> bytes:
    return b"data:%b;base64,%b" % (image.media_type.encode(), pybase64.b64encode(image.data))


class EstimatedAnswer(PartialAnswer):
    """What has come of one answer so far. Each part repeats those before it; tokens are estimated from the texts."""

    def __init__(self, prompt: Prompt, images: Sequence[SentImage]) -> None:
        """Counts the input by what was sent: images by the family's rule, text at four bytes a token."""
        super().__init__(image_tokens=sum(image.plan.token_count for image in images))
        self._text_tokens = _estimate(len(_text(prompt)))

    def add(self, reply: service_pb2.ModelInferResponse, elapsed_s: float) -> bytes:
        """Takes the next part, which replaces those before it."""
        text = super().add(reply, elapsed_s)
        del self._texts[:-1]
        # The model writes `None` until it stops, and `timeout` or `cancelled` where it was stopped.
        if self._finish_reason not in {b"stop", b"length"}:
            self._finish_reason = b""
        return text

    def usage(self) -> Usage:
        """Estimates: the model tells no counts."""
        written = sum(map(len, self._texts))
        return Usage(input_text=self._text_tokens, input_image=self._image_tokens, output=_estimate(written))


def _estimate(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
