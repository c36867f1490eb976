"""Keeps a call under the cost that its caller allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import Attempt, Outcome
from gateway.errors import CostAboveLimit, UnsupportedByModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.domain import Answer, Ask, Quote
    from gateway.metrics import Metrics
    from gateway.policies import Model


class Cap:
    """Passes a call on only if its worst case fits into what earlier attempts left of `max_cost`."""

    def __init__(self, inner: Model, *, name: str, quote: Callable[[Ask], Quote], metrics: Metrics) -> None:
        """*quote* prices an ask at this model before it is asked."""
        self._inner = inner
        self._name = name
        self._quote = quote
        self._metrics = metrics

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model, or raises `CostAboveLimit` without asking."""
        limit = ask.options.max_cost_nano_usd
        if limit is not None:
            spent = sum(attempt.cost_nano_usd for attempt in ask.trace.attempts)
            worst = self._worst(ask)
            if spent + worst > limit:
                ask.trace.attempts.append(Attempt(self._name, Outcome.SKIPPED, CostAboveLimit.reason))
                self._metrics.skipped(rpc=ask.query.rpc, model=self._name, reason=CostAboveLimit.reason)
                raise CostAboveLimit(
                    f"{self._name} may cost up to {worst} nano-USD, {spent} are spent, max_cost_nano_usd is {limit}: "
                    "lower image_detail or max_output_tokens, or allow more",
                    metadata={"max_cost_nano_usd": str(limit), "worst_case_nano_usd": str(worst)},
                )
        return await self._inner.answer(ask)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()

    def _worst(self, ask: Ask) -> int:
        try:
            return self._quote(ask).max_cost
        except UnsupportedByModel:
            # It asks nobody, and says so itself when asked, which puts it on the call's record.
            return 0
