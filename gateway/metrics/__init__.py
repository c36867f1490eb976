"""Every Prometheus instrument: names, labels and buckets.

Two families: the OpenTelemetry GenAI names as Envoy AI Gateway exports them, so that dashboards made for those work,
and our own. Labels come from closed sets (RPCs, configured models, error reasons), never from what a caller sends; the
names that servers give their models are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import disable_created_metrics

from gateway.metrics.calls import CallMetrics
from gateway.metrics.door import DoorMetrics
from gateway.metrics.images import ImageMetrics
from gateway.metrics.models import ModelMetrics
from gateway.metrics.money import MoneyMetrics
from gateway.metrics.routing import RoutingMetrics
from gateway.metrics.seat import gone
from gateway.metrics.settings import SettingsMetrics
from gateway.metrics.traces import TraceMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Metrics(
    CallMetrics, DoorMetrics, ImageMetrics, ModelMetrics, MoneyMetrics, RoutingMetrics, SettingsMetrics, TraceMetrics
):
    """The gateway's instruments on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        # One more series for each of the others, which nobody asks for: when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # The library leaves it without types.
        for part in (
            CallMetrics,
            DoorMetrics,
            ImageMetrics,
            ModelMetrics,
            MoneyMetrics,
            RoutingMetrics,
            SettingsMetrics,
            TraceMetrics,
        ):
            part.__init__(self, registry)

    def forget_model(self, model: str) -> None:
        """Shows no more how a model is that is not configured any more; what it did stays counted."""
        for gauge in (self._model_ready, self._breaker_state, self._model_limit):
            gone(gauge, model)
        # Counts up and down, should the model come back.
        for gauge in (self._inflight, self._model_queue):
            gone(gauge, model, left=0.0)
