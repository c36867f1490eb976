"""A stand-in of vLLM's module of this name; parameters as far as they are used."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class RequestOutputKind(Enum):
    """What a step holds."""

    DELTA = 1


@dataclass(kw_only=True)
class StructuredOutputsParams:
    """A grammar."""

    json: Any = None


@dataclass(kw_only=True)
class SamplingParams:
    """How tokens are chosen."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: Any = None
    max_tokens: int | None = 16
    skip_special_tokens: bool = True
    output_kind: Any = None
    structured_outputs: Any = None
