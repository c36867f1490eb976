"""Finds objects of the 80 COCO classes: SSD MobileNetV2 through OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2

from cpu_vision import weights
from cpu_vision.coco import CLASSES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Below it, more boxes are wrong than right on photographs.
_MIN_SCORE = 0.5
# Two boxes that overlap by this much are one object under two names, such as a cup that is also a bowl.
_SAME_OBJECT_IOU = 0.8


class Detection(NamedTuple):
    """One object: its COCO class, its box as fractions (x_min, y_min, x_max, y_max), and a score in [0, 1]."""

    name: str
    box: tuple[float, float, float, float]
    score: float


class Detector:
    """A detector for one thread: a `cv2.dnn.Net` shared by two gives wrong boxes without a word."""

    def __init__(self) -> None:
        """Loads the network, or raises `WeightsError`."""
        graph = weights.verified(weights.OBJECT_DETECTOR_GRAPH)
        self._net = cv2.dnn.readNetFromTensorflow(str(weights.verified(weights.OBJECT_DETECTOR)), str(graph))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """Finds the objects in a picture, the surest first."""
        self._net.setInput(cv2.dnn.blobFromImage(pixels, size=(300, 300), swapRB=True))
        found: list[Detection] = []
        # Rows are (batch, class, score, x_min, y_min, x_max, y_max), the surest first.
        for _, number, score, *corners in self._net.forward()[0, 0].tolist():
            if score < _MIN_SCORE or int(number) not in CLASSES:
                continue
            x_min, y_min, x_max, y_max = (min(max(corner, 0.0), 1.0) for corner in corners)
            box = (x_min, y_min, x_max, y_max)
            if all(iou(box, other.box) < _SAME_OBJECT_IOU for other in found):
                found.append(Detection(CLASSES[int(number)], box, score))
        return found


def iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Gives the intersection over union of two boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
