"""What a call asks, and what its caller wishes besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar, TypeAlias

from gateway.domain.images import ImageDetail

JsonSchema: TypeAlias = Mapping[str, object]


class Reasoning(Enum):
    """How long the model may think before it answers."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Priority(Enum):
    """What to prefer among the models of a route."""

    BALANCED = "balanced"
    QUALITY = "quality"
    COST = "cost"


class ServiceTier(Enum):
    """Service tier of a provider, in the words of our own contract."""

    STANDARD = "standard"
    FLEX = "flex"
    PRIORITY = "priority"


class Urgency(IntEnum):
    """Whether somebody waits for the answer; the lower number goes first."""

    INTERACTIVE = 0
    BULK = 1


class CachePolicy(Enum):
    """What a stored answer may be used for."""

    DEFAULT = "default"
    BYPASS = "bypass"
    REFRESH = "refresh"


class Query:
    """What one call asks, in no model's words. Each task subclasses it once, as a frozen dataclass of plain values."""

    rpc: ClassVar[str]

    @property
    def parts(self) -> tuple[Query, ...]:
        """The queries of one task each that it comes to; itself, unless it asks several at once."""
        return (self,)


@dataclass(frozen=True, slots=True)
class SeveralQuery(Query):
    """Asks *queries*, two or more of one task each, about one image at once."""

    rpc: ClassVar[str] = "Annotate"
    queries: tuple[Query, ...]

    @property
    def parts(self) -> tuple[Query, ...]:
        return self.queries


@dataclass(frozen=True, slots=True)
class Options:
    """The caller's wishes, checked. None means: as the model's profile says for the task."""

    model: str = ""
    route: str = ""
    priority: Priority = Priority.BALANCED
    max_cost_nano_usd: int | None = None
    image_detail: ImageDetail | None = None
    reasoning: Reasoning = Reasoning.NONE
    max_output_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    allow_fallback: bool | None = None
    local_only: bool = False
    service_tier: ServiceTier = ServiceTier.STANDARD
    max_image_tokens: int | None = None
    urgency: Urgency = Urgency.INTERACTIVE
    category: str = ""
    cache: CachePolicy = CachePolicy.DEFAULT
