"""Opens the gRPC port, and closes it without cutting off a call that could still be answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from gateway.server.health import Health
from gateway.server.reflection import Reflection
from gateway.server.service import SERVICE

if TYPE_CHECKING:
    from gateway.server.admission import Admission
    from gateway.server.connections import Connections
    from gateway.server.readiness import Readiness
    from gateway.server.service import Service

# Seconds in which calls are refused before the server stops. Calls that come as it stops end CANCELLED, and no handler
# sees them: https://github.com/grpc/grpc/issues/41785. Who was refused and told to wait has gone elsewhere by then.
_SETTLE_S = 0.3
# Seconds for what has ended to get out on the wire, and for what was ended to notice.
_FLUSH_S = 0.5
_LAST_S = 1.0

_MOST_AGE_S = 600
# Seconds after its beginning by which no call begins on a connection any more: gRPC ends each a tenth earlier or later
# (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md), and gives its caller 20 s to hear of it.
LONGEST_CONNECTION_S = 1.1 * _MOST_AGE_S + 20

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without the ping timeout, keepalive alone takes about a minute to notice a frozen peer.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Callers may ping this often, also between calls; the default of five minutes sends polite ones away.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Connections are renewed, so that callers spread over replicas that came later, and none is held open for nothing.
    ("grpc.max_connection_age_ms", _MOST_AGE_S * 1000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_allowed_incoming_connections", 1_000),
    # Streams over the limit end UNAVAILABLE in grpc-python's client, so it is far above what one caller has in flight.
    ("grpc.max_concurrent_streams", 4_096),
    # Above the default of 1,000 a burst loses calls, CANCELLED at random and seen by no handler.
    # https://github.com/grpc/grpc/pull/34782
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
    # Both the same: between them metadata is refused at random.
    ("grpc.max_metadata_size", 16_384),
    ("grpc.absolute_max_metadata_size", 16_384),
)


class Listener:
    """The gRPC server: the VisionService, grpc.health.v1, and reflection; the last two need no credential."""

    def __init__(  # noqa: PLR0913  all but one are keywords
        self,
        service: Service,
        *,
        admission: Admission,
        readiness: Readiness,
        max_message_bytes: int,
        max_deadline_s: float,
        reflects: bool = True,
        connections: Connections | None = None,
        shares_port: bool = False,
    ) -> None:
        """Messages over *max_message_bytes* are refused; no connection is cut within *max_deadline_s* of a call.

        *reflects* says whether callers may ask what the services are like, *shares_port* whether other processes of
        this user listen on the same port. *connections* notes what calls come on; None in plain text.
        """
        self._admission = admission
        self._readiness = readiness
        self._server = grpc.aio.server(
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_connection_age_grace_ms", round(max_deadline_s * 1000) + 10_000),
                # On by default: a second gateway could take the port unnoticed, and half of the calls with it.
                ("grpc.so_reuseport", int(shares_port)),
            ]
        )
        self._server.add_generic_rpc_handlers((service,))
        health_pb2_grpc.add_HealthServicer_to_server(Health(readiness, [SERVICE.full_name], connections), self._server)
        if reflects:
            names = (SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            servicer = Reflection((*names, reflection.SERVICE_NAME), connections)
            # typeshed leaves what is generated without types.
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens on *address*, HOST:PORT, and gives the port; raises OSError when it cannot be had.

        In plain text without *credentials*.
        """
        try:
            port = (
                self._server.add_secure_port(address, credentials)
                if credentials
                else self._server.add_insecure_port(address)
            )
        except RuntimeError:
            raise OSError(f"cannot listen on {address} for gRPC: is the port taken?") from None
        await self._server.start()
        return port

    async def drain(self, *, wait_s: float, grace_s: float) -> None:
        """Stops within *grace_s* seconds from now, and about one more.

        First the gateway is NOT_SERVING for *wait_s* and takes calls all the same, so that callers who watch its
        health go elsewhere before any call of theirs is refused. Then new calls are refused, soon also new connections,
        and those in flight go on until *grace_s* is over; what is left then ends UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        self._readiness.drain()
        await asyncio.sleep(min(wait_s, grace_s))
        self._admission.close()
        await asyncio.sleep(min(_SETTLE_S, max(end - loop.time(), 0.0)))
        stopping = asyncio.create_task(self._server.stop(max(end - loop.time(), 0.0) + _LAST_S))
        if not await self._emptied(end - loop.time()):
            self._admission.end_all()
            await self._emptied(_LAST_S)
        # Without this, a caller that watches the health would hold the server for all of its grace.
        await asyncio.wait({stopping}, timeout=_FLUSH_S)
        await self._server.stop(None)
        await stopping

    async def _emptied(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._admission.empty()
        except TimeoutError:
            return False
        return True
