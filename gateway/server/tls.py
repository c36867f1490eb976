"""TLS on both ports, with certificates that are renewed while calls go on."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Material:
    """One reading of the files, checked: PEM of certificate chain, key and, where callers need one, authorities.

    *http* has the same for the HTTP port; *expires* is when the certificate does, in Unix time.
    """

    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes | None = field(repr=False)
    http: ssl.SSLContext
    expires: float


class Certificates:
    """What new connections see and are held against; connections that are there keep what they saw."""

    def __init__(self, material: Material, metrics: Metrics) -> None:
        """Begins with *material*; whether callers need certificates is settled by it."""
        self._metrics = metrics
        self._requires = material.client_ca is not None
        self.hold(material)
        self._handed = self._configuration

    def hold(self, material: Material) -> None:
        """From now on new connections see *material*."""
        self._material = material
        self._configuration = _configuration(material)
        self._metrics.certificate(material.expires)

    def for_grpc(self) -> grpc.ServerCredentials:
        """Gives what the gRPC port is opened with."""
        # None is for no change, and typeshed does not know it.
        fetch: Callable[[], Any] = self._fetch
        return grpc.dynamic_ssl_server_credentials(self._configuration, fetch, self._requires)

    def for_http(self) -> ssl.SSLContext:
        """Gives what the HTTP port is opened with."""

        def take(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext) -> None:
            # The way to have a context for each connection; it is called whether or not the caller says a name.
            connection.context = self._material.http

        first = http_context()
        # What is asked of callers stays with the first one; what their certificates are held against does not.
        first.verify_mode = self._material.http.verify_mode
        first.sni_callback = take
        return first

    def _fetch(self) -> Any | None:
        """Gives what is new since it was last asked; gRPC asks before each handshake, in threads of its own."""
        self._metrics.tls_connection("grpc")
        now = self._configuration
        if now is self._handed:
            return None
        self._handed = now
        return now


def http_context() -> ssl.SSLContext:
    """Gives a context for servers, still without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Each connection is held against the files as they are now, so none is resumed.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration([(material.key, material.cert)], material.client_ca)
