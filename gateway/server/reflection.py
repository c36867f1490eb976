"""Lets callers ask what the services are like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from grpc_reflection.v1alpha import reflection_pb2 as pb

    from gateway.server.connections import Connections, Context


class Reflection(reflection_pb2_grpc.ServerReflectionServicer):
    """The servicer that comes with grpcio-reflection, and a note of what its calls come on."""

    def __init__(self, services: Iterable[str], connections: Connections | None = None) -> None:
        """*services* are the full names of those that there are."""
        # Its types say that what it yields must be awaited first.
        self._servicer: Any = aio.ReflectionServicer(services)
        self._connections = connections

    async def ServerReflectionInfo(  # noqa: N802  the name stands in the proto
        self, requests: AsyncIterator[pb.ServerReflectionRequest], context: Context
    ) -> AsyncGenerator[pb.ServerReflectionResponse]:
        if self._connections:
            self._connections.called(context)
        async for response in self._servicer.ServerReflectionInfo(requests, context):
            yield response
