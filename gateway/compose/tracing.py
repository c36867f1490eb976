"""Opens what makes traces, where there is somewhere to send them."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from gateway.metrics import Metrics
    from gateway.settings import TracingSettings
    from gateway.tracing import Tracer

_log = structlog.get_logger()


async def open_tracer(settings: TracingSettings, stack: AsyncExitStack, metrics: Metrics) -> Tracer | None:
    """Gives what starts the trace of each call until *stack* ends; None where traces go nowhere."""
    endpoint = _endpoint(settings)
    if not endpoint:
        return None
    # In a thread, since it reads many files.
    otel = await asyncio.to_thread(import_module, "gateway.tracing.otel")
    tracer: Tracer = await stack.enter_async_context(
        otel.connect(
            endpoint,
            sample_ratio=settings.sample_ratio,
            max_queue=settings.max_queue,
            dropped=metrics.spans_dropped,
        )
    )
    return tracer


def _endpoint(settings: TracingSettings) -> str:
    """Gives what is set here, else what the environment says to every program that OpenTelemetry is part of."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if settings.endpoint is not None:
        return str(settings.endpoint)
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return ""
    found = _of("ENDPOINT")
    if found and _of("PROTOCOL") not in {"", "grpc"}:
        _log.warning("tracing_off", cause="OTEL_EXPORTER_OTLP_PROTOCOL is not grpc; set tracing.endpoint")
        return ""
    return found


def _of(what: str) -> str:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{what}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{what}") or ""
