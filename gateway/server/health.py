"""Speaks grpc.health.v1 for the gateway as a whole (the empty name) and for its service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from gateway.server.connections import Connections
    from gateway.server.readiness import Readiness

    Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):
    """SERVING while the gateway can answer.

    The servicer that comes with grpcio-health-checking is not used: when one of several watchers of a service leaves,
    it forgets the others, which then never learn that the gateway drains.
    """

    def __init__(self, readiness: Readiness, services: Collection[str], connections: Connections | None = None) -> None:
        """*services* are the full names of those that are as healthy as the gateway."""
        self._readiness = readiness
        self._connections = connections
        self._known = frozenset(services) | {""}

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:  # noqa: N802
        """Tells the status now; NOT_FOUND for services that are not here."""
        if self._connections:
            self._connections.called(context)
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802  the name stands in the proto
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncGenerator[pb.HealthCheckResponse]:
        """Tells the status now and whenever it changes, until the gateway is gone."""
        if self._connections:
            self._connections.called(context)
        last: int | None = None
        while True:
            change = self._readiness.next_change
            status = self._status(request.service)
            if status != last:
                yield pb.HealthCheckResponse(status=status)
            last = status
            await change.wait()

    def _status(self, service: str) -> int:
        if service not in self._known:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if self._readiness.serving else pb.HealthCheckResponse.NOT_SERVING
