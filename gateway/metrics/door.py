"""Who was let in, and what the door itself is like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Port: TypeAlias = Literal["grpc", "http"]


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
            "TLS connections that callers began, also those whose handshake then failed.",
            ["port"],
            registry=registry,
        )
        self._tls_connections_used = Counter(
            "vision_gateway_tls_connections_used_total",
            "Those of them on which a call or a request came; the others failed in their handshake, or never called.",
            ["port"],
            registry=registry,
        )
        for counter in (self._tls_connections, self._tls_connections_used):
            for port in get_args(Port):
                # From 0 on, so that the first one is seen as an increase.
                counter.labels(port)
        self._certificate_expiry = Gauge(
            "vision_gateway_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that new connections see expires, in Unix time; 0 without TLS.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

    def auth_refused(self, cause: str) -> None:
        """Counts what was refused for *cause*."""
        self._refused.labels(cause).inc()

    def tls_connection(self, port: Port) -> None:
        """Counts a connection to *port* whose handshake begins."""
        self._tls_connections.labels(port).inc()

    def tls_connection_used(self, port: Port) -> None:
        """Counts a connection to *port* on which the first call comes."""
        self._tls_connections_used.labels(port).inc()

    def certificate(self, expires: float) -> None:
        """Shows when the certificate in use *expires*, in Unix time."""
        self._certificate_expiry.set(expires)
