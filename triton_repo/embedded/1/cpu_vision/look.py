"""What the networks see in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cpu_vision.classify import Classifier, ClassScore
from cpu_vision.conse import TOP_CLASSES, LabelRanker, RankedLabel
from cpu_vision.detect import Detection, Detector
from cpu_vision.ocr import Line, Reader
from cpu_vision.picture import Picture, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpu_vision.stop import Stop


@dataclass(frozen=True)
class Networks:
    """The networks that one thread uses: *reader* and *ranker* may be shared among threads, the others not."""

    reader: Reader
    ranker: LabelRanker
    detector: Detector
    classifier: Classifier


def load(count: int) -> list[Networks]:
    """Loads networks for *count* threads, or raises `WeightsError`."""
    reader, ranker = Reader(threads=count), LabelRanker(threads=count)
    return [Networks(reader, ranker, Detector(), Classifier()) for _ in range(count)]


class Look:
    """One picture, looked at by each network at most once, and only when somebody asks.

    Every look raises `CancelledError` when told to stop, and `InvalidImageError` when the picture cannot be decoded.
    """

    def __init__(self, networks: Networks, data: bytes, stop: Stop) -> None:
        """*data* is the encoded picture."""
        self._networks = networks
        self._data = data
        self._stop = stop

    @cached_property
    def picture(self) -> Picture:
        """The picture itself."""
        self._stop.check()
        return decode(self._data)

    @cached_property
    def detections(self) -> Sequence[Detection]:
        """Its objects, the surest first."""
        pixels = self.picture.pixels
        self._stop.check()
        return self._networks.detector.detect(pixels)

    @cached_property
    def classes(self) -> Sequence[ClassScore]:
        """Its ImageNet classes, the likeliest first."""
        pixels = self.picture.pixels
        self._stop.check()
        return self._networks.classifier.classify(pixels)

    @cached_property
    def lines(self) -> Sequence[Line]:
        """Its lines of text in reading order."""
        return self._networks.reader.read(self.picture.pixels, self._stop)

    def rank(self, labels: Sequence[str]) -> Sequence[RankedLabel]:
        """Ranks *labels* by how near they are to what it shows, the best first."""
        return self._networks.ranker.rank(self.classes[:TOP_CLASSES], labels, self._stop)
