"""Settings of a model on Triton, and the channel that they open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import grpc
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from typing import Self


class Tls(BaseModel):
    """TLS to the server; with no file named, the system's certificate authorities are trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # PEM file of the authorities to trust.
    ca: Path | None = None
    # PEM files of our own certificate and its key, for servers that ask for one; both or neither.
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self


class Options(BaseModel):
    """Settings of a model on Triton."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # gRPC target, such as `triton:8001` or `dns:///triton-headless:8001`; calls go round all its addresses.
    address: str = Field(default="127.0.0.1:8001", min_length=1)
    # Name of the model at the server, and its version; unset: the server's choice.
    model: str = Field(default="gemma4", min_length=1)
    version: str = ""
    # What the model speaks: our own contract, or that of the `llmapi` model in TensorRT-LLM's repository.
    wire: Literal["v1", "llmapi"] = "v1"
    # Unset: no TLS.
    tls: Tls | None = None
    # Seconds between HTTP/2 pings, at least 10. Triton drops clients that ping more often than every 300 s, unless it
    # runs with --grpc-http2-min-recv-ping-interval-without-data and --grpc-keepalive-permit-without-calls.
    keepalive_s: float = Field(default=310.0, ge=10, le=7200)
    # Largest request or answer in MiB.
    max_message_mib: int = Field(default=64, ge=1, le=2047)
    # Seconds that the server gets to tell whether the model is ready, or what its configuration is.
    ready_timeout_s: float = Field(default=2.0, gt=0, le=30)


async def open_channel(options: Options) -> grpc.aio.Channel:
    """Opens a channel to the server, which need not be up yet."""
    credentials = await asyncio.to_thread(_credentials, options.tls) if options.tls else None
    settings = [
        ("grpc.max_send_message_length", options.max_message_mib << 20),
        ("grpc.max_receive_message_length", options.max_message_mib << 20),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        # keepalive_timeout_ms alone leaves a frozen peer unnoticed for a minute (grpc 1.85).
        ("grpc.http2.ping_timeout_ms", 10_000),
        # A model may think for minutes without sending a byte.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_http_proxy", 0),
        # Retries are a policy's business.
        ("grpc.enable_retries", 0),
        ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
        ("grpc.service_config_disable_resolution", 1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(options.address, settings)
    return grpc.aio.secure_channel(options.address, credentials, settings)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, cert, key = (path.read_bytes() if path else None for path in (tls.ca, tls.cert, tls.key))
    return grpc.ssl_channel_credentials(ca, key, cert)
