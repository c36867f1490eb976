"""The table about traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, HttpUrl

from gateway.settings.table import Table


class TracingSettings(Table):
    """`[tracing]`: where the trace of each call goes, and who else is told of it."""

    # OTLP over gRPC; "" is nowhere. Unset: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT.
    endpoint: HttpUrl | Literal[""] | None = None
    # Share of the calls kept, of those whose callers do not say. Unset: as OTEL_TRACES_SAMPLER says, or all.
    sample_ratio: float | None = Field(default=None, ge=0, le=1)
    # Which models are told the trace that they are asked in. A third party learns from it which calls belong together.
    propagate: Literal["local", "all", "none"] = "local"
    # Spans that wait to be sent; a call makes about five.
    max_queue: int = Field(default=8192, ge=1, le=1_000_000)
