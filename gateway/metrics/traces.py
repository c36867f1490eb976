"""What became of traces on their way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class TraceMetrics:
    """What became of traces on their way out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._spans_dropped = Counter(
            "vision_gateway_spans_dropped_total",
            "Spans of traces that were not exported.",
            ["reason"],
            registry=registry,
        )

    def spans_dropped(self, count: int, reason: str) -> None:
        """Counts spans that were not exported, for *reason*: `queue_full` or `export_failed`; from any thread."""
        self._spans_dropped.labels(reason).inc(count)
