"""Chooses among a caller's own labels by ConSE, convex combination of semantic embeddings.

Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2013 (arXiv:1312.5650): a picture is
placed among sentences at the mean of its likeliest class names, weighted by their probabilities; labels are ranked by
their cosine to it. The sentence encoder is all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import BertWordPieceTokenizer

from cpu_vision import weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cpu_vision.classify import ClassScore
    from cpu_vision.stop import Stop

# T of the paper, which found 10 best.
TOP_CLASSES = 10
_MAX_TOKENS = 128
_BATCH = 16
_REMEMBERED = 4096
# The uncased vocabulary of BERT, which MiniLM was trained with.
_VOCABULARY = Path(__file__).with_name("bert_vocab.txt")


class RankedLabel(NamedTuple):
    """A caller's label, exactly as given, and its cosine to the picture in [-1, 1]; a cosine is no probability."""

    label: str
    cosine: float


class LabelRanker:
    """Ranks labels in any words. Safe to use from many threads."""

    def __init__(self, *, threads: int) -> None:
        """Loads the encoder, which uses *threads* threads, or raises `WeightsError`."""
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False
        self._encoder = InferenceSession(
            str(weights.verified(weights.SENTENCE_ENCODER)), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = BertWordPieceTokenizer(str(_VOCABULARY), lowercase=True)
        # To the longest of a batch: padding each label to 128 tokens takes thirty times as long.
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def rank(self, classes: Sequence[ClassScore], labels: Sequence[str], stop: Stop) -> list[RankedLabel]:
        """Ranks *labels* for a picture with these likeliest *classes*, the best first."""
        names = self._embed([found.name for found in classes], stop)
        picture = np.average(names, axis=0, weights=[max(found.score, 1e-6) for found in classes])
        cosines = self._embed(labels, stop) @ (picture / np.linalg.norm(picture))
        return [RankedLabel(labels[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]

    def _embed(self, texts: Sequence[str], stop: Stop) -> NDArray[np.float32]:
        """Gives unit vectors, shape (len(texts), 384)."""
        missing = self._missing(texts)
        new: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(missing), _BATCH):
            stop.check()
            batch = missing[start : start + _BATCH]
            new |= zip(batch, self._encode(batch), strict=True)
        with self._lock:
            self._remembered |= new
            vectors = np.stack([self._remembered[text] for text in texts])
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return vectors

    def _missing(self, texts: Iterable[str]) -> list[str]:
        with self._lock:
            return [text for text in dict.fromkeys(texts) if text not in self._remembered]

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer.encode_batch(texts)
        mask = np.array([found.attention_mask for found in tokens], dtype=np.int64)
        inputs = {
            "input_ids": np.array([found.ids for found in tokens], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        (states,) = self._encoder.run(None, inputs)
        # Sentence-transformers' pooling for this model: the mean over tokens, at length 1.
        means = (states * mask[:, :, np.newaxis]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return vectors
