"""Who was let in, and what the door itself is like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class DoorMetrics:
    """Who was let in, and what the door itself is like."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every instrument with *registry*, once per process."""
        self._refused = Counter(
            "vision_gateway_auth_refused_total",
            "Calls, and readings of the metrics, refused for a credential that is wrong or missing.",
            ["cause"],
            registry=registry,
        )
        self._tls_connections = Counter(
            "vision_gateway_tls_connections_total",
            "TLS connections that callers began at the gRPC port, also those whose handshake then failed.",
            registry=registry,
        )
        self._certificate_expiry = Gauge(
            "vision_gateway_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that new connections see expires, in Unix time; 0 without TLS.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

    def auth_refused(self, cause: str) -> None:
        """Counts what was refused for *cause*."""
        self._refused.labels(cause).inc()

    def tls_connection(self) -> None:
        """Counts a connection whose handshake begins."""
        self._tls_connections.inc()

    def certificate(self, expires: float) -> None:
        """Shows when the certificate in use *expires*, in Unix time."""
        self._certificate_expiry.set(expires)
