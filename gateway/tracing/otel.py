"""Traces by OpenTelemetry, exported over OTLP; imported only where there is somewhere to export them to.

What a call costs is making its spans; they are encoded and sent by a thread, in batches, from a bounded queue.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

    from gateway.tracing import Metadata, Value

_SERVICE = "visiongateway.v1.VisionService"
# Neither is longer in earnest: https://www.w3.org/TR/trace-context/.
_LONGEST = {"traceparent": 128, "tracestate": 512}
# Spans sent at once, as by OpenTelemetry's own default.
_BATCH = 512
_LIMITS = SpanLimits(max_span_attributes=64, max_events=64, max_links=8, max_attribute_length=256)
# Seconds at the gateway's end for what was not sent yet.
_FLUSH_S = 2.0
_NO_CONTEXT = Context()
_propagator = TraceContextTextMapPropagator()
_log = structlog.get_logger()


@asynccontextmanager
async def connect(
    endpoint: str, *, sample_ratio: float | None, max_queue: int, dropped: Callable[[int, str], None]
) -> AsyncGenerator[OtelTracer]:
    """Exports to *endpoint*, an OTLP/gRPC server, which need not be up; what is left when the context ends has 2 s.

    A *sample_ratio* in [0, 1] of the calls is kept, unless their callers say; None is as OTEL_TRACES_SAMPLER says, or
    all. At most *max_queue* spans wait. *dropped* is told how many spans were not exported, and why.
    """
    for name in ("opentelemetry.exporter", "opentelemetry.sdk.trace.export", "opentelemetry.sdk._shared_internal"):
        # They write several lines for every batch that cannot be sent; here it is one until it can again.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    otlp = OTLPSpanExporter(endpoint=endpoint)
    exporter = _Counted(otlp, dropped)
    queue = _Queue(exporter, max_queue, dropped)
    provider = TracerProvider(
        sampler=None if sample_ratio is None else ParentBasedTraceIdRatio(sample_ratio),
        resource=_resource(),
        span_limits=_LIMITS,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(queue)
    try:
        yield OtelTracer(provider.get_tracer("vision-gateway", gateway.__version__))
    finally:
        # A thread that the process does not wait for, should it be stuck.
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        await asyncio.to_thread(last.join, _FLUSH_S)
        otlp.shutdown()


class OtelTracer:
    """Starts the trace of each call."""

    def __init__(self, tracer: Tracer) -> None:
        """Makes spans with *tracer*."""
        self._tracer = tracer

    def call(self, rpc: str, metadata: Metadata) -> OtelSpan:
        method = f"{_SERVICE}/{rpc}"
        span = self._tracer.start_span(
            method,
            context=_caller(metadata),
            kind=SpanKind.SERVER,
            # The last is what `rpc.system.name` was called before; who reads traces may know only that.
            attributes={"rpc.method": method, "rpc.system.name": "grpc", "rpc.system": "grpc"},
        )
        return OtelSpan(self._tracer, span)


class OtelSpan:
    """One piece of work of a call."""

    __slots__ = ("_span", "_tracer", "is_kept")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        """Makes children with *tracer*."""
        self._tracer = tracer
        self._span = span
        self.is_kept = span.is_recording()

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, set_span_in_context(self._span, _NO_CONTEXT))
        return tuple(carrier.items())

    def child(self, name: str, *, is_client: bool) -> OtelSpan:
        kind = SpanKind.CLIENT if is_client else SpanKind.INTERNAL
        context = set_span_in_context(self._span, _NO_CONTEXT)
        return OtelSpan(self._tracer, self._tracer.start_span(name, context=context, kind=kind))

    def set(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str, attributes: Mapping[str, Value]) -> None:
        self._span.add_event(name, attributes)

    def fail(self, reason: str, *, is_error: bool = True) -> None:
        self._span.set_attribute("error.type", reason)
        if is_error:
            self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self) -> None:
        self._span.end()


class _Queue(SpanProcessor):
    """OpenTelemetry's batches, behind a bound at which spans are dropped and counted, in place of older ones lost."""

    def __init__(self, exporter: _Counted, most: int, dropped: Callable[[int, str], None]) -> None:
        self._exporter = exporter
        self._most = most
        self._dropped = dropped
        self._taken = 0
        self._batches = BatchSpanProcessor(exporter, max_queue_size=most, max_export_batch_size=min(_BATCH, most))

    def on_end(self, span: ReadableSpan) -> None:
        # Each of the two is written by one thread alone: this by the event loop's, the other by the exporter's.
        if self._taken - self._exporter.done >= self._most:
            self._dropped(1, "queue_full")
            return
        self._taken += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # The SDK's own has no types.

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._batches.force_flush(timeout_millis)


class _Counted(SpanExporter):
    """Counts what could not be sent, and says so once until it can again."""

    def __init__(self, inner: SpanExporter, dropped: Callable[[int, str], None]) -> None:
        self.done = 0
        self._inner = inner
        self._dropped = dropped
        self._is_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        cause = ""
        try:
            result = self._inner.export(spans)
        except Exception as exc:  # noqa: BLE001  whatever it is, these spans are lost
            result, cause = SpanExportResult.FAILURE, type(exc).__name__
        self.done += len(spans)
        is_down = result is not SpanExportResult.SUCCESS
        if is_down:
            self._dropped(len(spans), "export_failed")
        if is_down != self._is_down:
            self._is_down = is_down
            if is_down:
                _log.warning("traces_not_exported", cause=cause)
            else:
                _log.info("traces_exported_again")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def _caller(metadata: Metadata) -> Context:
    """Gives the caller's span if *metadata* names one, and one alone; what is malformed is passed over."""
    found: dict[str, str] = {}
    for key, value in metadata or ():
        if key in _LONGEST:
            if key in found or not isinstance(value, str) or len(value) > _LONGEST[key]:
                if key == "traceparent":
                    return _NO_CONTEXT
                value = ""  # noqa: PLW2901  a state that is of no use is none
            found[key] = value
    return _propagator.extract(found, _NO_CONTEXT) if found.get("traceparent") else _NO_CONTEXT


def _resource() -> Resource:
    ours = {
        "service.name": "vision-gateway",
        "service.version": gateway.__version__,
        "service.instance.id": str(uuid4()),
    }
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES know better.
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})
