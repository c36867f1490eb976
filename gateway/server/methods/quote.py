"""Prices a call before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.server import validate
from gateway.server.methods.asked import asked
from visiongateway.v1 import vision_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.domain import Ask, Offer, Options
    from gateway.pipeline import Call, Pipeline
    from gateway.server.methods import Emit
    from gateway.tasks import AnyTask
    from visiongateway.v1.call_pb2 import CallInfo

_NANO = 1_000_000_000


class QuoteMethod:
    """Prices the request of a task; nothing is asked."""

    rpc = "Quote"
    request = pb.QuoteRequest

    def __init__(self, tasks: Mapping[str, AnyTask], pipeline: Pipeline, offers: Callable[[Ask], list[Offer]]) -> None:
        """Knows the requests of *tasks*."""
        self._tasks = tasks
        self._pipeline = pipeline
        self._offers = offers

    def check(self, request: Any) -> Options:
        task, name, inner = asked(request, self._tasks)
        return validate.check(task, inner, at=f"{name}.")

    async def answer(self, request: Any, call: Call, emit: Emit) -> CallInfo | None:
        task, name, inner = asked(request, self._tasks)
        ask = await self._pipeline.ask(task, inner, call, at=f"{name}.", header_only=True)
        await emit(pb.QuoteResponse(candidates=[_candidate(offer) for offer in self._offers(ask)]))
        return None


def _candidate(offer: Offer) -> pb.QuoteCandidate:
    found = pb.QuoteCandidate(model=offer.model, skip_reason=offer.skip_reason)
    if offer.latency_s is not None:
        found.expected_latency.FromNanoseconds(int(offer.latency_s * _NANO))
    if (quote := offer.quote) is not None:
        found.image_token_count = quote.image_tokens
        found.input_token_count = quote.input_tokens
        found.max_output_token_count = quote.max_output_tokens
        found.expected_cost_nano_usd = quote.expected_cost
        found.max_cost_nano_usd = quote.max_cost
        found.price_version = quote.price_version
        found.sent_width_px, found.sent_height_px = quote.sent_px
    return found
