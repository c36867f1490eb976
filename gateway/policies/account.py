"""Prices, times and records every attempt at a model, the failed ones too."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway import tracing
from gateway.domain import Attempt, Completion, CostBasis, Outcome, ServiceTier
from gateway.errors import DeadlineExceeded, DeadlineTooShort, GatewayError
from gateway.ledger import Row
from gateway.policies import pass_by
from gateway.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.domain import Answer, Ask, Clock
    from gateway.latency import Latency
    from gateway.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.policies import Model
    from gateway.pricing import Price


class Account:
    """The innermost policy of a model: whatever goes through it is on the call's record and in the metrics."""

    def __init__(  # noqa: PLR0913  the parts it is made of, each named at the call
        self,
        inner: Model,
        *,
        name: str,
        provider: str,
        price: Price,
        latency: Latency,
        metrics: Metrics,
        clock: Clock,
        provider_model: str = "",
        ledger: Ledger | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """*name* is the operator's name of the model, *provider* the kind of its backend.

        *provider_model* is the provider's name of the model where an attempt does not tell it. *now_ns* gives
        nanoseconds since 1970-01-01 UTC.
        """
        self._inner = inner
        self._name = name
        self._provider = provider
        self._price = price
        self._latency = latency
        self._metrics = metrics
        self._clock = clock
        self._provider_model = provider_model
        self._ledger = ledger
        self._now_ns = now_ns
        self._span = f"attempt {name}"

    async def answer(self, ask: Ask) -> Answer:
        """Asks, and adds one `Attempt` to the call's trace and one row to the ledger however it ends.

        An answer or a failure goes out once its row is committed, or the ledger is known to be down.
        """
        started, asked_at_ns, reader_s = self._clock(), self._now_ns(), ask.trace.reader_s
        record = partial(self._record, ask, started, asked_at_ns)
        ask.trace.asked = None
        with tracing.span(self._span), self._metrics.inflight(self._name).track_inprogress():
            try:
                answer = await self._inner.answer(ask)
            except DeadlineTooShort as exc:
                # Nothing was asked.
                pass_by(ask, self._name, exc.reason, self._metrics, seconds=self._clock() - started)
                raise
            except GatewayError as exc:
                await _stored(record(exc.reason, _billed(ask, exc)))
                raise
            except asyncio.CancelledError:
                record("CANCELLED", _given_up(ask))
                raise
            except Exception:
                record("INTERNAL", _given_up(ask))
                raise
            # A model that its caller held up tells nothing of its own speed.
            if ask.trace.reader_s == reader_s:
                self._latency.observe(ask.query.rpc, self._name, self._clock() - started)
            written = record("", answer.completion)
        await _stored(written)
        return replace(answer, cost_basis=self._basis(answer.completion), price_version=self._price.version)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    def _basis(self, completion: Completion) -> CostBasis:
        if self._price.free:
            return CostBasis.FREE
        return CostBasis.ESTIMATED if completion.estimated else CostBasis.BILLED

    def _record(
        self, ask: Ask, started: float, asked_at_ns: int, reason: str, completion: Completion
    ) -> Awaitable[bool] | None:
        """Notes one attempt everywhere; what comes back is done when the ledger has it."""
        outcome = Outcome.FAILED if reason else Outcome.OK
        seconds = self._clock() - started
        usage, tier = completion.usage, completion.service_tier
        cost, basis = self._price.cost(usage, tier), self._basis(completion)
        ask.trace.attempts.append(Attempt(self._name, outcome, reason, seconds, cost, usage, basis))
        self._metrics.attempt(
            rpc=ask.query.rpc,
            model=self._name,
            provider=self._provider,
            response_model=completion.provider_model,
            outcome=outcome,
            reason=reason,
            seconds=seconds,
            usage=usage,
            tier=tier,
            cost_nano_usd=cost,
            time_to_first_token_s=completion.time_to_first_token_s,
        )
        if span := tracing.kept():
            span.set(
                {
                    "vision_gateway.model": self._name,
                    "vision_gateway.outcome": outcome.value,
                    "vision_gateway.cost_nano_usd": cost,
                    "vision_gateway.service_tier": tier.value,
                }
            )
        if self._ledger is None:
            return None
        return self._ledger.write(
            Row(
                time_us=asked_at_ns // 1000,
                request_id=ask.request_id,
                principal=ask.principal,
                rpc=ask.query.rpc,
                model=self._name,
                provider=self._provider,
                provider_model=completion.provider_model or self._provider_model,
                tier_asked=ask.options.service_tier.value,
                tier_billed=tier.value,
                usage=usage,
                cost_nano_usd=cost,
                basis=basis.value,
                price_version=self._price.version,
                outcome=outcome.value,
                reason=reason,
            )
        )


async def _stored(written: Awaitable[bool] | None) -> None:
    if written is not None:
        with tracing.span("ledger"):
            await written


def _billed(ask: Ask, exc: GatewayError) -> Completion:
    """Gives what a failed attempt was billed, as far as the model told; one that took too long told nothing."""
    if exc.usage is None and isinstance(exc, DeadlineExceeded):
        return _given_up(ask)
    tier = ServiceTier(exc.service_tier) if exc.service_tier else ServiceTier.STANDARD
    return Completion("", exc.usage or Usage(), exc.provider_model, service_tier=tier, estimated=exc.estimated)


def _given_up(ask: Ask) -> Completion:
    """Estimates what an attempt that nobody waited for may be billed: what was sent, and nothing that was written."""
    asked = ask.trace.asked
    if asked is None:
        return Completion("", Usage())
    return Completion("", asked, service_tier=ask.options.service_tier, estimated=True)
