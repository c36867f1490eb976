"""Prices, times and records every attempt at a model, the failed ones too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.domain import Attempt, Completion, CostBasis, Outcome, ServiceTier
from gateway.errors import GatewayError
from gateway.usage import Usage

if TYPE_CHECKING:
    from gateway.domain import Answer, Ask, Clock
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.pricing import Price

_NOTHING = Completion("", Usage())


class Account:
    """The innermost policy of a model: whatever goes through it is on the call's record and in the metrics."""

    def __init__(self, inner: Model, *, name: str, provider: str, price: Price, metrics: Metrics, clock: Clock) -> None:
        """*name* is the operator's name of the model, *provider* the kind of its backend."""
        self._inner = inner
        self._name = name
        self._provider = provider
        self._price = price
        self._metrics = metrics
        self._clock = clock

    async def answer(self, ask: Ask) -> Answer:
        """Asks, and adds one `Attempt` to the call's trace however it ends."""
        started = self._clock()
        with self._metrics.inflight(self._name).track_inprogress():
            try:
                answer = await self._inner.answer(ask)
            except GatewayError as exc:
                tier = ServiceTier(exc.service_tier) if exc.service_tier else ServiceTier.STANDARD
                self._record(ask, started, exc.reason, Completion("", exc.usage or Usage(), service_tier=tier))
                raise
            except asyncio.CancelledError:
                self._record(ask, started, "CANCELLED", _NOTHING)
                raise
            except Exception:
                self._record(ask, started, "INTERNAL", _NOTHING)
                raise
        self._record(ask, started, "", answer.completion)
        return replace(answer, cost_basis=self._basis(answer), price_version=self._price.version)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    def _basis(self, answer: Answer) -> CostBasis:
        if self._price.free:
            return CostBasis.FREE
        return CostBasis.ESTIMATED if answer.completion.estimated else CostBasis.BILLED

    def _record(self, ask: Ask, started: float, reason: str, completion: Completion) -> None:
        outcome = Outcome.FAILED if reason else Outcome.OK
        seconds = self._clock() - started
        cost = self._price.cost(completion.usage, completion.service_tier)
        ask.trace.attempts.append(Attempt(self._name, outcome, reason, seconds, cost, completion.usage))
        self._metrics.attempt(
            rpc=ask.query.rpc,
            model=self._name,
            provider=self._provider,
            response_model=completion.provider_model,
            outcome=outcome,
            reason=reason,
            seconds=seconds,
            usage=completion.usage,
            tier=completion.service_tier,
            cost_nano_usd=cost,
            time_to_first_token_s=completion.time_to_first_token_s,
        )
