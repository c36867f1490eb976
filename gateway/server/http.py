"""The HTTP port: metrics for Prometheus, and what orchestrators ask."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import uvicorn
from anyio import CapacityLimiter, to_thread
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from gateway.server.readiness import Readiness

_INDEX = f"""Vision Gateway {gateway.__version__}

/metrics  metrics for Prometheus
/healthz  200 while the process is alive
/readyz   200 while at least one model is ready, else 503; lists the models
"""


def app(registry: CollectorRegistry, readiness: Readiness) -> Starlette:
    """Makes the application that the HTTP port serves."""
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


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leaves signals alone: the process has its own way to end."""
        yield


@asynccontextmanager
async def serve(application: Starlette, address: str) -> AsyncGenerator[int]:
    """Serves until the context ends, and gives the port; raises OSError when *address*, HOST:PORT, cannot be had."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        listening = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as exc:
        raise OSError(f"cannot listen on {address} for HTTP: {exc.strerror}") from None
    server = _Server(
        uvicorn.Config(
            application,
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
