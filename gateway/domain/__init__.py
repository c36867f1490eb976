"""The words that every layer shares. Nothing here knows protobuf or a provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.domain.ask import Answer, Ask, Offer, Quote, Sink
from gateway.domain.images import ImageDetail, ImagePlan, SentImage, SourceImage
from gateway.domain.listing import Availability, Listing, RouteListing
from gateway.domain.prompt import Completion, Prompt
from gateway.domain.query import (
    CachePolicy,
    JsonSchema,
    Options,
    Priority,
    Query,
    Reasoning,
    ServiceTier,
    SeveralQuery,
    Urgency,
)
from gateway.domain.quota import QuotaKind, QuotaListener, UpstreamQuota
from gateway.domain.trace import Attempt, CacheOutcome, CostBasis, Outcome, Trace

__all__ = [
    "Answer",
    "Ask",
    "Attempt",
    "Availability",
    "CacheOutcome",
    "CachePolicy",
    "Clock",
    "Completion",
    "CostBasis",
    "ImageDetail",
    "ImagePlan",
    "JsonSchema",
    "Listing",
    "Offer",
    "Options",
    "Outcome",
    "Priority",
    "Prompt",
    "Query",
    "QuotaKind",
    "QuotaListener",
    "Quote",
    "Reasoning",
    "RouteListing",
    "SentImage",
    "ServiceTier",
    "SeveralQuery",
    "Sink",
    "SourceImage",
    "Trace",
    "UpstreamQuota",
    "Urgency",
]

# Seconds on a monotonic clock. Injected wherever time matters, so that no test sleeps.
Clock: TypeAlias = Callable[[], float]
