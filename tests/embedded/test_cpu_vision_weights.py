"""Weights are what was tested, or they are not loaded."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpu_vision import weights
from cpu_vision.weights import Weights, WeightsError, verified

EVERY = [found for found in vars(weights).values() if isinstance(found, Weights)]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: Path(one.path).name)
def test_the_installed_files_are_those_that_were_tested(one):
    assert verified(one).name == Path(one.path).name


def test_a_folder_of_ones_own_is_looked_at_instead(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_GATEWAY_MODEL_DIR", str(tmp_path))
    (tmp_path / "a.onnx").write_bytes(b"mine")

    found = verified(Weights("rapidocr", "models/a.onnx", hashlib.sha256(b"mine").hexdigest()))

    assert found == tmp_path / "a.onnx"


def test_a_file_that_was_changed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_GATEWAY_MODEL_DIR", str(tmp_path))
    name = Path(weights.CLASSIFIER.path).name
    (tmp_path / name).write_bytes(b"tampered")

    with pytest.raises(WeightsError, match=f"{name} is not the file that was tested"):
        verified(weights.CLASSIFIER)


def test_a_file_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("VISION_GATEWAY_MODEL_DIR", str(tmp_path))

    with pytest.raises(WeightsError, match=r"model\.onnx cannot be read"):
        verified(weights.SENTENCE_ENCODER)


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(WeightsError, match="package no_such_package is not installed"):
        verified(Weights("no_such_package", "a.onnx", ""))


def test_loading_the_networks_reports_to_nobody(tmp_path):
    code = "from cpu_vision.conse import LabelRanker; LabelRanker(threads=1)"
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(weights.__file__).parents[1])}

    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    # What ONNX Runtime would report it first writes down at home.
    assert list(tmp_path.rglob("*")) == []
