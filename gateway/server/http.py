"""The HTTP port: metrics for Prometheus, and what orchestrators ask."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

import gateway
from gateway.errors import Forbidden, Unauthenticated
from gateway.server.identity import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from ssl import SSLContext

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from gateway.metrics import Metrics
    from gateway.server.readiness import Readiness

# Under this name a request has the certificate of whoever makes it, as `ssl` gives it; verified.
_CERTIFICATE = "visiongateway.certificate"
_NAMES = {"URI", "DNS"}

_INDEX = f"""Vision Gateway {gateway.__version__}

/metrics  metrics for Prometheus
/healthz  200 while the process is alive
/readyz   200 while at least one model is ready, else 503; lists the models
"""


def app(
    registry: CollectorRegistry, readiness: Readiness, check_scrape: Callable[[Credentials], None] = lambda _: None
) -> Starlette:
    """Makes the application that the HTTP port serves.

    *check_scrape* raises `Unauthenticated` or `Forbidden` unless the metrics may be read with some credentials.
    """
    # One scrape at a time, and not on the event loop: many series take long to write.
    scrapes = CapacityLimiter(1)

    async def index(_: Request) -> Response:
        return PlainTextResponse(_INDEX)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        state = "draining" if readiness.draining else "serving" if readiness.serving else "not_serving"
        models = {name: "ready" if ready else "not_ready" for name, ready in readiness.models.items()}
        return JSONResponse({"state": state, "models": models}, status_code=200 if readiness.serving else 503)

    async def metrics(request: Request) -> Response:
        try:
            check_scrape(_credentials(request))
        except Unauthenticated as exc:
            return PlainTextResponse(f"{exc}\n", status_code=401, headers={"www-authenticate": "Bearer"})
        except Forbidden as exc:
            return PlainTextResponse(f"{exc}\n", status_code=403)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = await to_thread.run_sync(encode, registry, limiter=scrapes)
        return Response(text, headers={"content-type": content_type})

    return Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


def _credentials(request: Request) -> Credentials:
    certificate = request.scope.get(_CERTIFICATE)
    names = (
        tuple(name for kind, name in certificate.get("subjectAltName", ()) if kind in _NAMES) if certificate else None
    )
    return Credentials(tuple(request.headers.getlist("authorization")), names)


class _Connection(H11Protocol):
    """Tells the application of the caller's certificate, which ASGI servers otherwise keep to themselves."""

    def __init__(self, metrics: Metrics | None, *given: Any, **named: Any) -> None:
        """Made when a caller connects; *metrics* counts connections with TLS, None is for those in plain text."""
        super().__init__(*given, **named)
        self._unused = metrics
        if metrics:
            metrics.tls_connection("http")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn has it.
        super().connection_made(transport)
        inner, certificate = self.app, transport.get_extra_info("peercert")

        async def known(scope: Any, receive: Any, send: Any) -> None:
            if self._unused:
                self._unused.tls_connection_used("http")
                self._unused = None
            await inner({**scope, _CERTIFICATE: certificate}, receive, send)

        self.app = known


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leaves signals alone: the process has its own way to end."""
        yield


@asynccontextmanager
async def serve(
    application: Starlette,
    address: str,
    tls: SSLContext | None = None,
    *,
    metrics: Metrics | None = None,
    shares_port: bool = False,
) -> AsyncGenerator[int]:
    """Serves until the context ends, and gives the port; raises OSError when *address*, HOST:PORT, cannot be had.

    In plain text without *tls*, whose connections *metrics* counts. With *shares_port* other processes of this user may
    listen on the same port.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, int(port)), family=family, reuse_port=shares_port)
    except OSError as exc:
        raise OSError(f"cannot listen on {address} for HTTP: {exc.strerror}") from None
    server = _Server(
        uvicorn.Config(
            application,
            # uvicorn has types for classes alone, and calls whatever it is.
            http=partial(_Connection, metrics if tls else None),  # type: ignore[arg-type]
            ssl_context_factory=(lambda _config, _default: tls) if tls else None,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
