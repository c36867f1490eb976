"""What is served is what the contract says."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

REPOSITORY = Path(__file__).parents[2] / "triton_repo"


def test_the_configuration_has_the_inputs_and_outputs_of_the_contract():
    contract = json.loads((REPOSITORY / "contract.json").read_text())
    config = text_format.Parse((REPOSITORY / "embedded/config.pbtxt").read_text(), model_config_pb2.ModelConfig())

    inputs = [
        {"name": one.name, "datatype": datatype(one), "dims": list(one.dims), "optional": one.optional}
        for one in config.input
    ]
    outputs = [{"name": one.name, "datatype": datatype(one), "dims": list(one.dims)} for one in config.output]

    assert (inputs, outputs) == (contract["inputs"], contract["outputs"])
    assert (config.name, config.max_batch_size, config.model_transaction_policy.decoupled) == ("embedded", 0, True)


def datatype(tensor):
    name = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name
