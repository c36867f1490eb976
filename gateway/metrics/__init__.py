"""Every Prometheus instrument: names, labels and buckets.

Two families: the OpenTelemetry GenAI names as Envoy AI Gateway exports them, so that dashboards made for those work,
and our own. Labels come from closed sets (RPCs, configured models, error reasons), never from what a caller sends; the
names that servers give their models are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.metrics.calls import CallMetrics
from gateway.metrics.models import ModelMetrics
from gateway.metrics.money import MoneyMetrics
from gateway.metrics.routing import RoutingMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Metrics(CallMetrics, ModelMetrics, MoneyMetrics, RoutingMetrics):
    """The gateway's instruments on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        for part in (CallMetrics, ModelMetrics, MoneyMetrics, RoutingMetrics):
            part.__init__(self, registry)
