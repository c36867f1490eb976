"""What a caller was told of one call."""

from __future__ import annotations

from dataclasses import dataclass

from google.rpc import error_details_pb2, status_pb2

from visiongateway.v1 import call_pb2


@dataclass(frozen=True)
class Told:
    """What a caller was told of one call."""

    request_id: str
    code: str
    reason: str
    has_retry_info: bool
    model: str
    answer: str
    cost_nano_usd: int
    # Whether a failure was called one of a text of which the caller has read a part.
    partial: bool
    # Of an answer, its attempts as (model, reason), the reason empty for the one that answered.
    attempts: tuple[tuple[str, str], ...] | None
    seconds: float

    def __str__(self):
        if self.code == "OK":
            return f"OK from {self.model}"
        if self.code == "DEADLINE_EXCEEDED":
            # By whose clock is chance, and who gives up by its own is told no more.
            return self.code
        said = f"{self.code} {self.reason}, partial" if self.partial else f"{self.code} {self.reason}"
        return f"{said}, RetryInfo" if self.has_retry_info else said


def answered(request_id, response, seconds):
    """What a response says."""
    info = response.info
    return Told(
        request_id=request_id,
        code="OK",
        reason="",
        has_retry_info=False,
        model=info.model,
        answer=response.answer,
        cost_nano_usd=info.cost_nano_usd,
        partial=False,
        attempts=tuple(
            (attempt.model, attempt.reason)
            for attempt in info.attempts
            if attempt.outcome != call_pb2.ATTEMPT_OUTCOME_SKIPPED
        ),
        seconds=seconds,
    )


def failed(request_id, error, seconds):
    """What a status says."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return Told(
        request_id=request_id,
        code=error.code().name,
        reason=info.reason,
        has_retry_info=any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details),
        model="",
        answer="",
        partial=info.metadata.get("partial") == "true",
        cost_nano_usd=int(trailers.get("x-vision-cost-nano-usd", 0)),
        attempts=None,
        seconds=seconds,
    )
