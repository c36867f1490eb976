"""Tells how each call went: one line of the log and the metrics of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from gateway import tracing
from gateway.domain import Outcome
from gateway.info import overhead_s

if TYPE_CHECKING:
    from gateway.domain import Trace
    from gateway.metrics import Metrics

# Which codes are errors of the server's, not of its callers:
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
_OF_THE_SERVER = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_log = structlog.get_logger()


@dataclass(slots=True)
class Record:
    """What is known of one call so far; times in seconds, *received_at* on the injected clock.

    *cause* is what was wrong with a credential; empty where nothing was.
    """

    rpc: str
    request_id: str
    received_at: float
    trace: Trace
    body_s: float = 0.0
    byte_count: int = 0
    info: Any = None
    principal: str = ""
    cause: str = ""

    @property
    def cost_nano_usd(self) -> int:
        """The cost of all attempts so far."""
        return sum(attempt.cost_nano_usd for attempt in self.trace.attempts)

    @property
    def model(self) -> str:
        """The model that answered, else the one that was asked last; empty when none was."""
        if self.info is not None:
            return str(self.info.model)
        asked = (attempt.model for attempt in reversed(self.trace.attempts) if attempt.outcome is not Outcome.SKIPPED)
        return next(asked, "")


def ended(record: Record, metrics: Metrics, *, code: str, reason: str, now: float) -> None:
    """Counts and logs a call that ended with gRPC *code*, and with *reason* unless it was answered."""
    total_s = now - record.received_at
    # What the caller took to send the body is no doing of the gateway's.
    added_s = overhead_s(record.trace, total_s - record.body_s)
    metrics.call_ended(record.rpc, code, total_s, None if reason else added_s)
    trace = record.trace
    line: dict[str, Any] = {
        "rpc": record.rpc,
        "code": code,
        "reason": reason,
        "request_id": record.request_id,
        "principal": record.principal,
        "model": record.model,
        "cost_nano_usd": record.cost_nano_usd,
        "total_ms": _ms(total_s),
        "body_ms": _ms(record.body_s),
        "queue_ms": _ms(trace.queue_s),
        "image_ms": _ms(trace.image_s),
        "upstream_ms": _ms(trace.upstream_s),
        "overhead_ms": _ms(added_s),
        "request_bytes": record.byte_count,
        "route_reason": trace.route_reason,
        "attempts": [
            {
                "model": attempt.model,
                "outcome": attempt.outcome.value,
                "reason": attempt.reason,
                "ms": _ms(attempt.duration_s),
                "cost_nano_usd": attempt.cost_nano_usd,
            }
            for attempt in trace.attempts
        ],
    }
    if record.cause:
        line["cause"] = record.cause
    if trace.cache:
        line["cache"] = trace.cache.value
    if record.info is not None:
        image = record.info.image
        line["image"] = {
            "media_type": image.media_type,
            "bytes": image.byte_count,
            "size": [image.width_px, image.height_px],
            "sent_size": [image.sent_width_px, image.sent_height_px],
        }
    if span := tracing.current():
        line["trace_id"] = span.trace_id
        _tell(span, record, code=code, reason=reason)
    _log.info("call", **line)


def _tell(span: tracing.Span, record: Record, *, code: str, reason: str) -> None:
    if not span.is_kept:
        return
    trace = record.trace
    span.set(
        {
            "rpc.response.status_code": code,
            "vision_gateway.request_id": record.request_id,
            "vision_gateway.principal": record.principal,
            "vision_gateway.model": record.model,
            "vision_gateway.cost_nano_usd": record.cost_nano_usd,
            "vision_gateway.route_reason": trace.route_reason,
            "vision_gateway.request_bytes": record.byte_count,
        }
    )
    if trace.cache:
        span.set({"vision_gateway.cache": trace.cache.value})
    if reason:
        span.fail(reason, is_error=code in _OF_THE_SERVER)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
