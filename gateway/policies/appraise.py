"""Shows how well quotes foretell what answers are billed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import CostBasis

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.domain import Answer, Ask, Quote
    from gateway.metrics import Metrics
    from gateway.policies import Model


class Appraise:
    """Measures what an answer was billed against what was quoted for it."""

    def __init__(self, inner: Model, *, name: str, quote: Callable[[Ask], Quote], metrics: Metrics) -> None:
        """*quote* prices an ask at this model before it is asked."""
        self._inner = inner
        self._name = name
        self._quote = quote
        self._metrics = metrics

    async def answer(self, ask: Ask) -> Answer:
        """Asks, and compares when the bill is the provider's own."""
        answer = await self._inner.answer(ask)
        if answer.cost_basis is CostBasis.BILLED and (expected := self._quote(ask).expected_cost):
            billed = ask.trace.attempts[-1].cost_nano_usd
            self._metrics.quote_error(model=self._name, ratio=billed / expected)
        return answer

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()
