"""Wire contract v1 between the gateway and its models on Triton, and how a served model is checked against it.

The single source is `triton_repo/contract.json`, which is not part of the wheel; a test keeps the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tritonclient.grpc import model_config_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1


class Tensor(NamedTuple):
    """One input or output: its name, its datatype in the protocol's words, and its dims (-1 is any)."""

    name: str
    datatype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False


INPUTS = (
    Tensor("text_input", "BYTES"),
    Tensor("system_prompt", "BYTES", optional=True),
    Tensor("image_bytes", "BYTES", (-1,), optional=True),
    Tensor("image_token_budget", "INT32", optional=True),
    Tensor("guided_json", "BYTES", optional=True),
    Tensor("enable_thinking", "BOOL", optional=True),
    Tensor("streaming", "BOOL", optional=True),
    Tensor("sampling_param_max_tokens", "INT32", optional=True),
    Tensor("sampling_param_temperature", "FP32", optional=True),
    Tensor("sampling_param_top_p", "FP32", optional=True),
    Tensor("sampling_param_top_k", "INT32", optional=True),
    Tensor("sampling_param_seed", "UINT64", optional=True),
    Tensor("sampling_param_stop", "BYTES", (-1,), optional=True),
)
OUTPUTS = (
    Tensor("text_output", "BYTES"),
    Tensor("reasoning_output", "BYTES"),
    Tensor("finish_reason", "BYTES"),
    Tensor("num_input_tokens", "UINT32"),
    Tensor("num_output_tokens", "UINT32"),
)


def differences(
    config: model_config_pb2.ModelConfig,
    inputs_wanted: tuple[Tensor, ...] = INPUTS,
    outputs_wanted: tuple[Tensor, ...] = OUTPUTS,
    *,
    decoupled: bool = True,
) -> Iterator[str]:
    """Yields what in a served model's configuration breaks the contract, in words for the operator.

    Inputs and outputs beyond the contract are allowed, unless such an input is required. Without *decoupled*, the model
    may be so or not.
    """
    if decoupled and not config.model_transaction_policy.decoupled:
        yield "the model is not decoupled"
    if config.max_batch_size:
        yield f"max_batch_size is {config.max_batch_size}, not 0"
    inputs = {tensor.name: _tensor(tensor, optional=tensor.optional) for tensor in config.input}
    outputs = {tensor.name: _tensor(tensor) for tensor in config.output}
    for side, wanted, served in (("input", inputs_wanted, inputs), ("output", outputs_wanted, outputs)):
        for tensor in wanted:
            found = served.get(tensor.name)
            if found is None:
                yield f"{side} {tensor.name} is missing"
            elif found != tensor:
                yield f"{side} {tensor.name} is {_words(found)}, not {_words(tensor)}"
    known = {tensor.name for tensor in inputs_wanted}
    for name in sorted(inputs.keys() - known):
        if not inputs[name].optional:
            yield f"input {name} is required but unknown to the contract"


def _tensor(tensor: model_config_pb2.ModelInput | model_config_pb2.ModelOutput, *, optional: bool = False) -> Tensor:
    datatype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return Tensor(tensor.name, "BYTES" if datatype == "STRING" else datatype, tuple(tensor.dims), optional)


def _words(tensor: Tensor) -> str:
    return f"{'optional ' if tensor.optional else ''}{tensor.datatype}{list(tensor.dims)}"
