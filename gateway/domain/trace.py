"""What happened to one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from gateway.usage import Usage


class Outcome(Enum):
    """How one attempt went."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class CostBasis(Enum):
    """Where a cost comes from."""

    BILLED = "billed"
    ESTIMATED = "estimated"
    FREE = "free"


class CacheOutcome(Enum):
    """What the cache did for a call."""

    HIT = "hit"
    MISS = "miss"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model that was asked, or passed over for *reason*."""

    model: str
    outcome: Outcome
    reason: str = ""
    duration_s: float = 0.0
    cost_nano_usd: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_basis: CostBasis = CostBasis.FREE


@dataclass(slots=True)
class Trace:
    """What happened to one call so far; written along the way, read when it ends.

    *asked* estimates what the model that is being asked right now reads; None where none is. *reader_s* is what the
    caller itself took, slow to read what it was handed. *committed* says that it was handed text of an answer.
    """

    attempts: list[Attempt] = field(default_factory=list)
    route_reason: str = ""
    queue_s: float = 0.0
    image_s: float = 0.0
    upstream_s: float = 0.0
    reader_s: float = 0.0
    asked: Usage | None = None
    cache: CacheOutcome | None = None
    committed: bool = False
