"""A stand-in of TensorRT-LLM's module of this name; parameters as far as they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class GuidedDecodingParams:
    """A grammar."""

    json: Any = None


@dataclass(kw_only=True)
class SamplingParams:
    """How tokens are chosen."""

    max_tokens: int = 32
    stop: Any = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    temperature: float | None = None
    guided_decoding: Any = None
    add_special_tokens: bool = True
    skip_special_tokens: bool = True
