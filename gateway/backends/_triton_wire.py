"""What models on Triton may speak, and the parts that each such wire consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from tritonclient.grpc import model_config_pb2, service_pb2

from gateway.backends import _triton_contract, _triton_llmapi, _triton_request
from gateway.backends._triton_answer import PartialAnswer
from gateway.domain import Prompt, SentImage


class _Request(Protocol):
    def __call__(
        self,
        prompt: Prompt,
        images: Sequence[SentImage],
        *,
        model: str,
        version: str,
        timeout_s: float,
        streaming: bool = False,
    ) -> service_pb2.ModelInferRequest: ...


class Wire(NamedTuple):
    """*request* writes a prompt, *answer* gathers what comes of it, *differences* checks a served model.

    *streams* says whether the parts of an answer follow each other as deltas when they are asked for.
    """

    request: _Request
    answer: Callable[[Prompt, Sequence[SentImage]], PartialAnswer]
    differences: Callable[[model_config_pb2.ModelConfig], Iterator[str]]
    streams: bool


def _answer_v1(_prompt: Prompt, images: Sequence[SentImage]) -> PartialAnswer:
    return PartialAnswer(image_tokens=sum(image.plan.token_count for image in images))


WIRES = {
    "v1": Wire(_triton_request.infer_request, _answer_v1, _triton_contract.differences, streams=True),
    "llmapi": Wire(
        _triton_llmapi.infer_request, _triton_llmapi.EstimatedAnswer, _triton_llmapi.differences, streams=False
    ),
}
