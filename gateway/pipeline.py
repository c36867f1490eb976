"""The one path that every call takes, from a checked request to its response."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.domain import Ask, CacheOutcome, CostBasis, Options, Outcome, ServiceTier, Trace
from gateway.errors import InvalidImage
from gateway.imaging import inspect
from gateway.usage import Usage
from visiongateway.v1 import call_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.duration_pb2 import Duration

    from gateway.domain import Answer, Clock, SourceImage
    from gateway.imaging import Limits
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.tasks import AnyTask

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


@dataclass(frozen=True, slots=True)
class Call:
    """What the transport knows about one call; times are on the injected clock, *trace* fills along the way."""

    principal: str
    deadline: float
    request_id: str
    received_at: float
    options: Options = field(default_factory=Options)
    trace: Trace = field(default_factory=Trace)


class Pipeline:
    """Checks the images, asks the policies, and says who answered and what it cost."""

    def __init__(self, model: Model, *, limits: Limits, metrics: Metrics, clock: Clock) -> None:
        """*model* is the outermost policy; *limits* are those on images."""
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._clock = clock

    async def run(self, task: AnyTask, request: Any, call: Call) -> Any:
        """Answers *request*, whose fields are checked, with `info` filled; raises `GatewayError`."""
        try:
            ask = self.ask(task, request, call)
            # Its images would be in memory twice for as long as the model thinks.
            del request
            answer = await self._model.answer(ask)
        except InvalidImage as exc:
            # Found by its header here, by its pixels on the way to a model, or by the model's own decoder.
            self._metrics.image_rejected(exc.limit)
            raise
        response: Any = answer.response
        self._describe(response.info, ask, answer, self._clock() - call.received_at)
        return response

    def ask(self, task: AnyTask, request: Any, call: Call, *, header_only: bool = False) -> Ask:
        """Says what *request* asks, its images checked; raises `InvalidImage`.

        With *header_only* it can be priced but not answered.
        """
        return Ask(
            query=task.query(request),
            images=tuple(self._images(task, request, header_only=header_only)),
            options=call.options,
            deadline=call.deadline,
            request_id=call.request_id,
            trace=call.trace,
            principal=call.principal,
        )

    def _images(self, task: AnyTask, request: Any, *, header_only: bool) -> Iterator[SourceImage]:
        for path, image in task.images(request):
            source = inspect(image.data, self._limits, field=path, header_only=header_only)
            self._metrics.image_received(task.rpc, len(source.data))
            yield source

    def _describe(self, info: pb.CallInfo, ask: Ask, answer: Answer, total_s: float) -> None:
        trace = ask.trace
        info.request_id = ask.request_id
        info.model = answer.model
        info.backend = answer.backend
        info.provider_model = answer.completion.provider_model
        info.prompt_version = answer.prompt_version
        info.price_version = answer.price_version
        info.service_tier = _TIERS[answer.completion.service_tier]
        info.route_reason = trace.route_reason
        info.cost_nano_usd = sum(attempt.cost_nano_usd for attempt in trace.attempts)
        # A free model may answer after one that was paid to fail; how surely that was counted is not on the record.
        is_paid = answer.cost_basis is CostBasis.FREE and info.cost_nano_usd
        is_unsure = is_paid or any(attempt.cost_basis is CostBasis.ESTIMATED for attempt in trace.attempts)
        info.cost_basis = _BASES[CostBasis.ESTIMATED if is_unsure else answer.cost_basis]
        info.usage.CopyFrom(_usage(sum((attempt.usage for attempt in trace.attempts), Usage())))
        if trace.cache:
            info.cache = _CACHE[trace.cache]
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
        if answer.completion.time_to_first_token_s is not None:
            _set(info.timing.time_to_first_token, answer.completion.time_to_first_token_s)
        source = ask.images[0]
        info.image.width_px = source.width_px
        info.image.height_px = source.height_px
        info.image.byte_count = len(source.data)
        info.image.media_type = source.media_type
        info.image.sent_width_px = answer.sent.width_px
        info.image.sent_height_px = answer.sent.height_px
        info.image.sent_byte_count = answer.sent_bytes
        info.image.token_count = answer.sent.token_count


def overhead_s(trace: Trace, total_s: float) -> float:
    """Gives the seconds of a call that neither queue, image work nor models account for; never negative."""
    return max(total_s - trace.queue_s - trace.image_s - trace.upstream_s, 0.0)


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_text_token_count=usage.input_text,
        input_image_token_count=usage.input_image,
        cached_input_token_count=usage.cached_input,
        output_token_count=usage.output,
        reasoning_token_count=usage.reasoning,
    )


def _set(duration: Duration, seconds: float) -> None:
    duration.FromNanoseconds(int(seconds * _NANO))
