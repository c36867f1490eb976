"""Names what a picture shows in ImageNet's 1000 classes: EfficientNet-Lite3 through LiteRT."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cpu_vision import weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ClassScore(NamedTuple):
    """One class: its first ImageNet name, such as `tench`, all its names, and its probability in [0, 1]."""

    name: str
    names: str
    score: float


class Classifier:
    """A classifier for one thread."""

    def __init__(self) -> None:
        """Loads the network, or raises `WeightsError`."""
        self._network = Interpreter(str(weights.verified(weights.CLASSIFIER)), num_threads=1)
        self._network.allocate_tensors()
        (self._input,) = self._network.get_input_details()
        (self._output,) = self._network.get_output_details()
        self._names = weights.verified(weights.CLASS_NAMES).read_text(encoding="utf-8").splitlines()

    def classify(self, pixels: NDArray[np.uint8]) -> list[ClassScore]:
        """Scores all classes for a picture, the likeliest first.

        The whole picture is squeezed into the network's square: a cut one would lose what stands at its edges.
        """
        height, width = self._input["shape"][1:3]
        square = cv2.resize(pixels, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        self._network.set_tensor(self._input["index"], cv2.cvtColor(square, cv2.COLOR_BGR2RGB)[np.newaxis])
        self._network.invoke()
        scale, zero = self._output["quantization"]
        scores = (self._network.get_tensor(self._output["index"])[0].astype(np.float32) - zero) * scale
        order = np.argsort(-scores, kind="stable")
        return [ClassScore(self._names[i].split(",")[0], self._names[i], float(scores[i])) for i in order]
