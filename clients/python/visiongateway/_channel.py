"""How the client reaches gateways: addresses, balancing, retries, keepalive, sizes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address

SERVICE = "visiongateway.v1.VisionService"

_MEBIBYTE = 1024 * 1024

# https://github.com/grpc/grpc-proto/blob/master/grpc/service_config/service_config.proto
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # A gateway that drains, or has no model ready, gets no calls: a rolling restart loses none.
    "healthCheckConfig": {"serviceName": SERVICE},
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            # UNAVAILABLE alone may be tried again by a client (https://google.aip.dev/194).
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # At most about 1.1 attempts a call while everything fails (https://github.com/grpc/proposal/blob/master/A6-client-retries.md),
    # once some 20 have failed: about so many calls may be in flight at a gateway that dies, and all are tried again.
    "retryThrottling": {"maxTokens": 40, "tokenRatio": 0.1},
}

_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A request that outgrows this is never retried, whatever the policy says; the library's default is 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 32 * _MEBIBYTE),
    ("grpc.max_send_message_length", -1),  # How much is too much, the gateway says.
    ("grpc.max_receive_message_length", 16 * _MEBIBYTE),
    # Without the ping timeout, keepalive alone takes about a minute to notice a frozen peer.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


def channel_options(extra: Sequence[tuple[str, str | int]]) -> list[tuple[str, str | int]]:
    """Gives the channel options of the client; those in *extra* win."""
    return list((dict(_OPTIONS) | dict(extra)).items())


def channel_target(target: str | Sequence[str]) -> str:
    """Gives the gRPC target for one address, or for several `IP:port` addresses to spread calls over.

    Raises:
        ValueError: *target* is empty, or lists addresses that are not all IPv4 or all IPv6.
    """
    addresses = [target] if isinstance(target, str) else list(target)
    if not addresses or not all(addresses):
        raise ValueError("target: give at least one address, such as 'localhost:50051'")
    if len(addresses) == 1:
        return addresses[0]
    versions = {_ip_version(address) for address in addresses}
    if len(versions) > 1:
        raise ValueError("target: several addresses must all be IPv4 or all be IPv6")
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _ip_version(address: str) -> int:
    host = address.rpartition(":")[0]
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).version
    except ValueError:
        raise ValueError(
            f"target: {address!r} is not 'IP:port'; names take part one at a time, such as 'dns:///gateway:50051'"
        ) from None
