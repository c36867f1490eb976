"""Keeps a call under the cost that its caller allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import CostAboveLimit, UnsupportedByModel
from gateway.policies import pass_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.domain import Answer, Ask
    from gateway.metrics import Metrics
    from gateway.policies import Model


class Cap:
    """Makes a call's worst case fit into what earlier attempts left of `max_cost`, or passes it by."""

    def __init__(self, inner: Model, *, name: str, fit: Callable[[Ask, int], Ask], metrics: Metrics) -> None:
        """*fit* makes an ask fit into an allowance in nano-USD, or raises `CostAboveLimit`."""
        self._inner = inner
        self._name = name
        self._fit = fit
        self._metrics = metrics

    async def answer(self, ask: Ask) -> Answer:
        """Asks the inner model, or raises `CostAboveLimit` without asking."""
        limit = ask.options.max_cost_nano_usd
        if limit is not None:
            spent = sum(attempt.cost_nano_usd for attempt in ask.trace.attempts)
            try:
                ask = self._fit(ask, max(limit - spent, 0))
            except CostAboveLimit:
                pass_by(ask, self._name, CostAboveLimit.reason, self._metrics)
                raise
            except UnsupportedByModel:
                # It asks nobody, and says so itself when asked, which puts it on the call's record.
                pass
        return await self._inner.answer(ask)

    async def ready(self) -> bool:
        """Tells whether the inner model is ready."""
        return await self._inner.ready()
