from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import Attempt, Outcome
from gateway.errors import CostAboveLimit, UnsupportedByModel
from gateway.policies.cap import Cap


@pytest.fixture
def capped(model, metrics):
    def fit(asked, allowance):
        if allowance < 100:
            raise CostAboveLimit(f"{allowance} are allowed")
        return replace(asked, options=replace(asked.options, max_output_tokens=allowance))

    inner = model()
    return inner, Cap(inner, name="m", fit=fit, metrics=metrics)


async def test_without_a_limit_every_call_passes(capped, ask):
    assert (await capped[1].answer(ask())).model == "m"


async def test_a_call_is_asked_as_it_fits_the_limit(capped, ask):
    inner, cap = capped

    await cap.answer(ask(max_cost_nano_usd=100))

    assert [asked.options.max_output_tokens for asked in inner.asked] == [100]


async def test_nothing_is_left_for_a_call_that_cost_more_than_its_limit_already(capped, ask):
    asked = ask(max_cost_nano_usd=150)
    asked.trace.attempts.append(Attempt("other", Outcome.FAILED, "UNUSABLE_ANSWER", cost_nano_usd=200))

    with pytest.raises(CostAboveLimit, match=r"^0 are allowed"):
        await capped[1].answer(asked)


async def test_a_worst_case_above_the_limit_is_refused_without_asking(capped, ask, sample):
    inner, cap = capped
    asked = ask(max_cost_nano_usd=99)

    with pytest.raises(CostAboveLimit, match="99 are allowed"):
        await cap.answer(asked)

    assert inner.asked == []
    assert [(a.outcome, a.reason) for a in asked.trace.attempts] == [(Outcome.SKIPPED, "COST_ABOVE_LIMIT")]
    skipped = {"outcome": "skipped", "reason": "COST_ABOVE_LIMIT"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="m", **skipped) == 1


async def test_what_earlier_attempts_cost_counts_against_the_limit(capped, ask):
    asked = ask(max_cost_nano_usd=150)
    asked.trace.attempts.append(Attempt("other", Outcome.FAILED, "UNUSABLE_ANSWER", cost_nano_usd=60))

    with pytest.raises(CostAboveLimit):
        await capped[1].answer(asked)


async def test_a_model_that_cannot_price_the_call_says_so_itself_and_is_on_the_record(model, metrics, ask):
    def cannot(_, __):
        raise UnsupportedByModel("one image at most")

    inner = model("m", UnsupportedByModel("one image at most"))

    with pytest.raises(UnsupportedByModel):
        await Cap(inner, name="m", fit=cannot, metrics=metrics).answer(ask(max_cost_nano_usd=100))

    assert len(inner.asked) == 1
