"""Every configuration that Gemma 4 is served by is what the contract says."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gateway.backends._triton_contract import differences

_MODEL = Path(__file__).parents[2] / "triton_repo/gemma4"
_CONFIGS = [_MODEL / "config.pbtxt", *sorted((_MODEL / "configs").glob("*.pbtxt"))]


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_keeps_the_contract_and_names_an_engine_that_is_there(path):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())

    assert list(differences(config)) == []
    assert sorted(config.parameters) == ["engine", "engine_options", "max_images", "max_in_flight", "max_pixels"]
    assert (_MODEL / f"1/gemma4_serving/engines/{config.parameters['engine'].string_value}.py").is_file()
    assert (_MODEL / "1" / config.parameters["engine_options"].string_value).is_file()
