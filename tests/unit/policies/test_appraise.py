from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import Attempt, CostBasis, Outcome, Quote
from gateway.policies.appraise import Appraise


class Billing:
    """Stands in for a model that is accounted for: answers at a cost, on a basis."""

    def __init__(self, inner, basis, cost):
        self._inner, self._basis, self._cost = inner, basis, cost

    async def answer(self, ask):
        ask.trace.attempts.append(Attempt("m", Outcome.OK, cost_nano_usd=self._cost))
        return replace(await self._inner.answer(ask), cost_basis=self._basis)


@pytest.mark.parametrize(
    ("basis", "expected", "ratio"),
    [(CostBasis.BILLED, 200, 1.5), (CostBasis.ESTIMATED, 200, None), (CostBasis.BILLED, 0, None)],
    ids=["billed", "an estimate of ours", "quoted at nothing"],
)
async def test_a_bill_is_compared_with_its_quote(model, metrics, ask, sample, basis, expected, ratio):
    billing = Billing(model(), basis, cost=300)

    await Appraise(billing, name="m", quote=lambda _: Quote(0, 0, 0, expected, 900), metrics=metrics).answer(ask())

    assert sample("vision_gateway_quote_error_ratio_sum", model="m") == ratio
