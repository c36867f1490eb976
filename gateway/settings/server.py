"""The tables about the gateway itself: where it listens, what it takes at once, and what images it takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.door import TlsSettings
from gateway.settings.table import Table


class ServerSettings(Table):
    """`[server]`: where the gateway listens and what it takes."""

    # HOST:PORT; port 0 takes a free one and prints it.
    grpc_address: str = "127.0.0.1:50051"
    http_address: str = "127.0.0.1:8080"
    # Seconds a call may take when its caller set no deadline, and the most that a caller's deadline counts for.
    default_deadline_s: float = Field(default=60.0, gt=0, le=3600)
    max_deadline_s: float = Field(default=600.0, gt=0, le=3600)
    # Processes that serve, each with limits and memory of its own.
    workers: int = Field(default=1, ge=1, le=64)
    # Calls worked on at once; beyond it they are answered UNAVAILABLE before their bodies are read.
    max_inflight: int = Field(default=256, ge=1, le=100_000)
    # Seconds for a caller to send the body of a call.
    body_timeout_s: float = Field(default=20.0, gt=0, le=600)
    # Seconds, on SIGTERM, between NOT_SERVING and closing; and for calls to end, that wait included.
    drain_wait_s: float = Field(default=1.0, ge=0, le=60)
    grace_s: float = Field(default=30.0, ge=0, le=3600)
    # Seconds between two looks at each model's readiness.
    readiness_interval_s: float = Field(default=2.0, gt=0, le=60)
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # When the settings are read again: on SIGHUP and when their file changes, on SIGHUP alone, or never.
    reload: Literal["auto", "signal", "off"] = "auto"
    # Without it both ports are in plain text.
    tls: TlsSettings | None = None
    # Whether callers may ask over gRPC what the service is like.
    reflection: bool = True
    # Who may read /metrics. None: everybody.
    metrics_principals: tuple[str, ...] = ()

    @property
    def https(self) -> bool:
        """Whether the HTTP port speaks TLS."""
        return self.tls is not None and self.tls.http


class ImageSettings(Table):
    """`[images]`: what images are taken, and how many processes decode them."""

    max_mib: int = Field(default=20, ge=1, le=512)
    max_megapixels: float = Field(default=40.0, gt=0, le=1000)
    max_megapixels_webp: float = Field(default=16.0, gt=0, le=1000)
    max_side_px: int = Field(default=16_384, ge=64, le=65_535)
    formats: tuple[Literal["JPEG", "PNG", "WEBP", "GIF"], ...] = ("JPEG", "PNG", "WEBP", "GIF")
    workers: int = Field(default=2, ge=1, le=64)
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    # MiB of images held after their calls, so that callers may name them by digest; and seconds after their last use.
    held_mib: int = Field(default=64, ge=0, le=65_536)
    held_s: float = Field(default=60.0, gt=0, le=3600)
