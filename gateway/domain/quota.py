"""What a provider says is left of its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class QuotaKind(StrEnum):
    """What providers limit."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class UpstreamQuota:
    """One limit of a provider on what it is asked, when it answered.

    *remaining* of *limit* may still be asked for; both are 0 or more, and *limit* is None where it was not told. In
    which time it fills again is the provider's affair.
    """

    kind: QuotaKind
    remaining: int
    limit: int | None = None


# Called at once whenever a provider tells; returns at once and never raises.
QuotaListener: TypeAlias = Callable[[UpstreamQuota], object]
