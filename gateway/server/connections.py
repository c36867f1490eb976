"""Tells TLS connections that callers use from those that come to nothing."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

    from gateway.domain import Clock
    from gateway.metrics import Metrics

    Context = grpc.aio.ServicerContext[Any, Any]

# Peers that are known at most, about 6 MB of them: those of 48 new connections a second.
_MOST = 32_768


class Connections:
    """Counts each connection of the gRPC port once, when the first call comes on it.

    gRPC for Python tells when a handshake begins, and never how it ends: what was begun and is not used either failed,
    or its caller never called.
    """

    def __init__(self, metrics: Metrics, *, longest_s: float, clock: Clock, most: int = _MOST) -> None:
        """A peer that first called *longest_s* seconds ago calls on another connection now, from the same port.

        Of more than *most* within that time the oldest are forgotten, and are counted once more where they call again.
        """
        self._metrics = metrics
        self._longest_s = longest_s
        self._clock = clock
        self._most = most
        # When each peer first called, the earliest first.
        self._since: OrderedDict[str, float] = OrderedDict()

    def called(self, context: Context) -> None:
        """Notes the connection that the call of *context* came on."""
        peer, now = context.peer(), self._clock()
        since = self._since.get(peer)
        if since is not None and now < since + self._longest_s:
            return
        self._metrics.tls_connection_used("grpc")
        self._since[peer] = now
        self._since.move_to_end(peer)
        while len(self._since) > self._most or next(iter(self._since.values())) + self._longest_s <= now:
            self._since.popitem(last=False)
