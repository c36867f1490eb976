"""Reads text: PP-OCRv6 through RapidOCR."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from rapidocr import RapidOCR
from rapidocr.utils.output import RapidOCROutput

from cpu_vision import weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cpu_vision.stop import Stop

# Languages of PP-OCRv6 small by RapidOCR 3.10's default_models.yaml, as the primary subtags of BCP 47.
LANGUAGES = frozenset(
    tag
    for tags in (
        "af az bs ca cs cy da de en es et eu fi fr ga gl hr hu id is it ja ku la lb lt lv",
        "mi ms mt nb nl nn no oc pl pt qu rm ro sk sl sq sr sv sw tl tr uz vi zh",
    )
    for tag in tags.split()
)


class Line(NamedTuple):
    """One line of text: four corners in pixels, clockwise from its own top left, and a score in [0, 1]."""

    text: str
    polygon: Sequence[tuple[float, float]]
    score: float


class Reader:
    """Finds and reads lines of text. Safe to use from many threads: they share the networks."""

    def __init__(self, *, threads: int) -> None:
        """Loads the networks, each of which uses *threads* threads, or raises `WeightsError`."""
        self._ocr = RapidOCR(
            params={
                # The angle classifier turns long upright lines upside down and ruins them (measured on invoices).
                "Global.use_cls": False,
                "Global.log_level": "error",
                # Text is found in a smaller picture and read in the whole one. By default pictures are enlarged until
                # their shorter side has 736 px; this reads pages as well (measured on A4 at 150 and 200 dpi), twice as
                # fast, and no single operator of the network takes long, so that a cancel is heeded soon.
                "Det.limit_type": "max",
                "Det.limit_side_len": 960,
                "Det.model_path": str(weights.verified(weights.TEXT_DETECTOR)),
                "Rec.model_path": str(weights.verified(weights.TEXT_RECOGNIZER)),
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            }
        )
        self._ocr(_some_text())  # RapidOCR loads its networks when they first have something to do.
        self._current = threading.local()
        for part in (self._ocr.text_det, self._ocr.text_rec):
            assert part is not None  # noqa: S101 - it was used just now
            part.session.session = _StoppableSession(part.session.session, self._current)

    def read(self, pixels: NDArray[np.uint8], stop: Stop) -> list[Line]:
        """Reads all lines of a picture in reading order; raises `CancelledError` when told to stop.

        Lines that the recognizer gives a score below 0.5 are left out.
        """
        stop.check()
        self._current.stop = stop
        try:
            found = self._ocr(pixels)
        except Exception:
            stop.check()
            raise
        if not isinstance(found, RapidOCROutput) or found.txts is None or found.boxes is None or found.scores is None:
            return []
        return [
            Line(text, [(float(x), float(y)) for x, y in box], float(score))
            for text, box, score in zip(found.txts, found.boxes, found.scores, strict=True)
        ]


class _StoppableSession:
    """An ONNX Runtime session whose runs end when the current thread's `Stop` is told."""

    def __init__(self, session: Any, current: threading.local) -> None:
        self._session = session
        self._current = current

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> Any:
        stop: Stop = self._current.stop
        stop.check()
        return self._session.run(outputs, inputs, stop.run_options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _some_text() -> NDArray[np.uint8]:
    picture = np.full((64, 64, 3), 255, np.uint8)
    cv2.putText(picture, "Hi", (8, 48), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (0, 0, 0), 3)
    return picture
