"""Says who answered a call, what it used and cost, and how long each part took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import CacheOutcome, CostBasis, Outcome, ServiceTier
from gateway.usage import Usage
from visiongateway.v1 import call_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from gateway.domain import Answer, Ask, Trace

_OUTCOMES = {
    Outcome.OK: pb.ATTEMPT_OUTCOME_OK,
    Outcome.FAILED: pb.ATTEMPT_OUTCOME_FAILED,
    Outcome.SKIPPED: pb.ATTEMPT_OUTCOME_SKIPPED,
}
_BASES = {
    CostBasis.BILLED: pb.COST_BASIS_BILLED,
    CostBasis.ESTIMATED: pb.COST_BASIS_ESTIMATED,
    CostBasis.FREE: pb.COST_BASIS_FREE,
}
_TIERS = {
    ServiceTier.STANDARD: pb.SERVICE_TIER_STANDARD,
    ServiceTier.FLEX: pb.SERVICE_TIER_FLEX,
    ServiceTier.PRIORITY: pb.SERVICE_TIER_PRIORITY,
}
_CACHE = {
    CacheOutcome.HIT: pb.CACHE_OUTCOME_HIT,
    CacheOutcome.MISS: pb.CACHE_OUTCOME_MISS,
    CacheOutcome.COALESCED: pb.CACHE_OUTCOME_COALESCED,
}
_NANO = 1_000_000_000


def answered(info: pb.CallInfo, ask: Ask, answer: Answer, total_s: float) -> None:
    """Fills *info* of a call that *answer* ended after *total_s* seconds."""
    _tell(info, ask, total_s)
    trace = ask.trace
    info.model = answer.model
    info.backend = answer.backend
    info.provider_model = answer.completion.provider_model
    info.prompt_version = answer.prompt_version
    info.price_version = answer.price_version
    info.service_tier = _TIERS[answer.completion.service_tier]
    # A free model may answer after one that was paid to fail; how surely that was counted is not on the record.
    is_paid = answer.cost_basis is CostBasis.FREE and info.cost_nano_usd
    is_unsure = is_paid or any(attempt.cost_basis is CostBasis.ESTIMATED for attempt in trace.attempts)
    info.cost_basis = _BASES[CostBasis.ESTIMATED if is_unsure else answer.cost_basis]
    if trace.cache:
        info.cache = _CACHE[trace.cache]
    if answer.completion.time_to_first_token_s is not None:
        _set(info.timing.time_to_first_token, answer.completion.time_to_first_token_s)
    info.image.sent_width_px = answer.sent.width_px
    info.image.sent_height_px = answer.sent.height_px
    info.image.sent_byte_count = answer.sent_bytes
    info.image.token_count = answer.sent.token_count


def unanswered(ask: Ask, total_s: float) -> pb.CallInfo:
    """Tells what a call used and cost that ended after *total_s* seconds without an answer of its own."""
    info = pb.CallInfo()
    _tell(info, ask, total_s)
    bases = {attempt.cost_basis for attempt in ask.trace.attempts}
    least_sure = next((basis for basis in (CostBasis.ESTIMATED, CostBasis.BILLED) if basis in bases), CostBasis.FREE)
    info.cost_basis = _BASES[least_sure]
    return info


def shares(info: pb.CallInfo, count: int) -> list[pb.CallInfo]:
    """Gives each of *count* parts of a call its share of what all of it used and cost; they add up to that exactly."""
    found = [pb.CallInfo() for _ in range(count)]
    for index, share in enumerate(found):
        share.CopyFrom(info)
        for field in share.usage.DESCRIPTOR.fields:
            setattr(share.usage, field.name, _share(getattr(info.usage, field.name), index, count))
        for attempt in share.attempts:
            attempt.cost_nano_usd = _share(attempt.cost_nano_usd, index, count)
        share.cost_nano_usd = sum(attempt.cost_nano_usd for attempt in share.attempts)
    return found


def add(info: pb.CallInfo, earlier: pb.CallInfo) -> None:
    """Adds to *info* what was used and spent *earlier* for the same answer."""
    attempts = [*earlier.attempts, *info.attempts]
    del info.attempts[:]
    info.attempts.extend(attempts)
    for field in info.usage.DESCRIPTOR.fields:
        setattr(info.usage, field.name, getattr(info.usage, field.name) + getattr(earlier.usage, field.name))
    info.cost_nano_usd += earlier.cost_nano_usd
    is_paid = info.cost_basis == pb.COST_BASIS_FREE and earlier.cost_nano_usd
    if is_paid or earlier.cost_basis == pb.COST_BASIS_ESTIMATED:
        info.cost_basis = earlier.cost_basis


def _share(amount: int, index: int, count: int) -> int:
    whole, rest = divmod(amount, count)
    return whole + (index < rest)


def _tell(info: pb.CallInfo, ask: Ask, total_s: float) -> None:
    trace = ask.trace
    info.request_id = ask.request_id
    info.route_reason = trace.route_reason
    info.cost_nano_usd = sum(attempt.cost_nano_usd for attempt in trace.attempts)
    info.usage.CopyFrom(usage(sum((attempt.usage for attempt in trace.attempts), Usage())))
    for attempt in trace.attempts:
        added = info.attempts.add(
            model=attempt.model,
            outcome=_OUTCOMES[attempt.outcome],
            reason=attempt.reason,
            cost_nano_usd=attempt.cost_nano_usd,
        )
        _set(added.duration, attempt.duration_s)
    _set(info.timing.total, total_s)
    _set(info.timing.queue, trace.queue_s)
    _set(info.timing.image, trace.image_s)
    _set(info.timing.upstream, trace.upstream_s)
    _set(info.timing.overhead, overhead_s(trace, total_s))
    source = ask.images[0]
    info.image.width_px = source.width_px
    info.image.height_px = source.height_px
    info.image.byte_count = len(source.data)
    info.image.media_type = source.media_type


def overhead_s(trace: Trace, total_s: float) -> float:
    """Gives the seconds of a call that neither queue, image work, models nor its caller account for; never negative."""
    return max(total_s - trace.queue_s - trace.image_s - trace.upstream_s - trace.reader_s, 0.0)


def usage(used: Usage) -> pb.Usage:
    """Gives the message that has the buckets of *used*."""
    return pb.Usage(
        input_text_token_count=used.input_text,
        input_image_token_count=used.input_image,
        cached_input_token_count=used.cached_input,
        output_token_count=used.output,
        reasoning_token_count=used.reasoning,
    )


def _set(duration: Duration, seconds: float) -> None:
    duration.FromNanoseconds(int(seconds * _NANO))
