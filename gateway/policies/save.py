"""Shows what routing saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain import Outcome
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.domain import Answer, Ask, Quote
    from gateway.metrics import Metrics
    from gateway.policies import Model


class Save:
    """Measures what each answer cost, all attempts together, against what the dearest model alone would have cost.

    That is what it did cost where it answered, as it does when it is asked in the end, else what was to be expected.
    """

    def __init__(self, inner: Model, *, quotes: Mapping[str, Callable[[Ask], Quote]], metrics: Metrics) -> None:
        """*quotes* price an ask at each configured model, by its name, before it is asked."""
        self._inner = inner
        self._quotes = quotes
        self._metrics = metrics

    async def answer(self, ask: Ask) -> Answer:
        """Asks, and compares when there was something to choose from."""
        answer = await self._inner.answer(ask)
        if len(self._quotes) > 1:
            spent = sum(attempt.cost_nano_usd for attempt in ask.trace.attempts)
            answered = {each.model: each.cost_nano_usd for each in ask.trace.attempts if each.outcome is Outcome.OK}
            dearest = max(
                answered[name] if name in answered else _expected(quote, ask) for name, quote in self._quotes.items()
            )
            # A counter only grows: what a failed attempt cost on top shows in the cost itself.
            self._metrics.saved(rpc=ask.query.rpc, model=answer.model, nano_usd=max(dearest - spent, 0))
        return answer

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()


def _expected(quote: Callable[[Ask], Quote], ask: Ask) -> int:
    try:
        return quote(ask).expected_cost
    except GatewayError:
        # It could not have been asked, so nothing was saved against it.
        return 0
