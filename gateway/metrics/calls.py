"""What callers see: calls, images, and the process that answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from gateway import tracing
from gateway.metrics._units import LONG, SHORT

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_BYTES = tuple(float(4**n * 1024) for n in range(2, 8))


class CallMetrics:
    """What callers see: calls, images, and the process that answers them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._requests = Counter(
            "vision_gateway_requests_total", "Calls by RPC and gRPC code.", ["rpc", "code"], registry=registry
        )
        self._duration = Histogram(
            "vision_gateway_request_duration_seconds",
            "Time from the first byte of a call to its answer.",
            ["rpc"],
            buckets=LONG,
            registry=registry,
        )
        self._overhead = Histogram(
            "vision_gateway_overhead_seconds",
            "Time the gateway added to answered calls: total less queue, image work and models.",
            ["rpc"],
            buckets=SHORT,
            registry=registry,
        )
        self._inflight = Gauge(
            "vision_gateway_inflight",
            "Calls being worked on: at the server, or at a model.",
            ["scope"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._shed = Counter(
            "vision_gateway_shed_total", "Calls turned away before any work.", ["reason"], registry=registry
        )
        self._images_rejected = Counter(
            "vision_gateway_images_rejected_total",
            "Images refused, by the limit they hit.",
            ["limit"],
            registry=registry,
        )
        self._image_bytes = Histogram(
            "vision_gateway_image_bytes", "Size of images received.", ["rpc"], buckets=_BYTES, registry=registry
        )
        self._loop_lag = Histogram(
            "vision_gateway_event_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=SHORT,
            registry=registry,
        )

    def call_ended(self, rpc: str, code: str, seconds: float, overhead_seconds: float | None) -> None:
        """Counts a call that ended with gRPC *code*; *overhead_seconds* is None unless it was answered."""
        self._requests.labels(rpc, code).inc()
        exemplar = tracing.exemplar()
        self._duration.labels(rpc).observe(seconds, exemplar)
        if overhead_seconds is not None:
            self._overhead.labels(rpc).observe(overhead_seconds, exemplar)

    def inflight(self, scope: str) -> Gauge:
        """Gives the gauge of work going on in *scope*: `server`, or a model's name."""
        return self._inflight.labels(scope)

    def shed(self, reason: str) -> None:
        """Counts a call turned away before any work."""
        self._shed.labels(reason).inc()

    def image_received(self, rpc: str, byte_count: int) -> None:
        """Counts an image that passed the checks."""
        self._image_bytes.labels(rpc).observe(byte_count)

    def image_rejected(self, limit: str) -> None:
        """Counts an image that hit *limit*."""
        self._images_rejected.labels(limit).inc()

    def loop_lag(self, seconds: float) -> None:
        """Records how late the event loop was."""
        self._loop_lag.observe(seconds)
