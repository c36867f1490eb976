"""What there is to ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Availability(Enum):
    """Whether a model can be asked."""

    READY = "ready"
    NOT_READY = "not_ready"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What there is to know of one configured model; money in nano-USD a token, 0 where it costs nothing per call.

    *tasks* are RPCs; *quality* is a share of correct answers in [0, 1], `overall` and by category.
    """

    name: str
    kind: str
    provider_model: str
    family: str
    tasks: tuple[str, ...]
    local: bool
    max_images: int
    context_tokens: int
    streams: bool
    structured_output: bool
    open_vocabulary: bool
    input_nano_usd: int
    cached_input_nano_usd: int
    output_nano_usd: int
    price_version: str
    free: bool
    max_inflight: int
    quality: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RouteListing:
    """One route: its models in the operator's order, and how the first one is chosen."""

    name: str
    models: tuple[str, ...]
    choose: str
    escalates: bool
