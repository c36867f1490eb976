from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain import Attempt, CostBasis, Outcome, ServiceTier
from gateway.errors import BackendUnavailable, TruncatedAnswer
from gateway.policies.account import Account
from gateway.pricing import FREE, Price, Rates, per_million
from gateway.usage import Usage

PRICE = per_million("0.060", "0.330")
TIERED = Price("tiered", {ServiceTier.STANDARD: (Rates(1, 1, 3),), ServiceTier.PRIORITY: (Rates(2, 2, 6),)})
USAGE = Usage(input_text=10, output=5)


@pytest.fixture
def account(metrics, clock):
    def make(inner, price=PRICE):
        return Account(inner, name="m", provider="fake", price=price, metrics=metrics, clock=clock)

    return make


async def test_an_answer_is_priced_timed_and_recorded(account, model, ask):
    asked = ask()

    answer = await account(model("m", USAGE, takes_s=2.0)).answer(asked)

    assert asked.trace.attempts == [Attempt("m", Outcome.OK, "", 2.0, 10 * 60 + 5 * 330, USAGE)]
    assert (answer.cost_basis, answer.price_version) == (CostBasis.BILLED, PRICE.version)


async def test_a_failure_that_was_billed_costs_what_it_used(account, model, ask):
    asked = ask()

    with pytest.raises(TruncatedAnswer):
        await account(model("m", TruncatedAnswer("cut", usage=USAGE))).answer(asked)

    assert asked.trace.attempts == [Attempt("m", Outcome.FAILED, "TRUNCATED_ANSWER", 0.0, 2250, USAGE)]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (BackendUnavailable("down"), "BACKEND_UNAVAILABLE"),
        (asyncio.CancelledError(), "CANCELLED"),
        (ValueError("a bug"), "INTERNAL"),
    ],
)
async def test_every_end_is_on_the_record(account, model, ask, failure, reason):
    asked = ask()

    with pytest.raises(type(failure)):
        await account(model("m", failure)).answer(asked)

    assert [(attempt.outcome, attempt.reason) for attempt in asked.trace.attempts] == [(Outcome.FAILED, reason)]


async def test_a_free_model_says_so(account, model, ask):
    assert (await account(model("m"), FREE).answer(ask())).cost_basis is CostBasis.FREE


async def test_an_answer_whose_tokens_were_estimated_says_so(account, model, ask):
    inner = model("m", USAGE)
    answer_of = inner.answer

    async def estimated(asked):
        answer = await answer_of(asked)
        return replace(answer, completion=replace(answer.completion, estimated=True))

    inner.answer = estimated

    assert (await account(inner).answer(ask())).cost_basis is CostBasis.ESTIMATED


async def test_a_failure_is_billed_at_the_tier_that_served_it(account, model, ask):
    asked = ask()

    with pytest.raises(TruncatedAnswer):
        await account(model("m", TruncatedAnswer("cut", usage=USAGE, service_tier="priority")), TIERED).answer(asked)

    assert asked.trace.attempts[0].cost_nano_usd == 10 * 2 + 5 * 6


async def test_an_answer_is_billed_at_the_tier_that_served_it(account, model, ask):
    inner = model("m", USAGE)
    answer_of = inner.answer

    async def prioritised(asked):
        answer = await answer_of(asked)
        return replace(answer, completion=replace(answer.completion, service_tier=ServiceTier.PRIORITY))

    inner.answer = prioritised
    asked = ask()

    await account(inner, TIERED).answer(asked)

    assert asked.trace.attempts[0].cost_nano_usd == 10 * 2 + 5 * 6


async def test_attempts_and_what_they_cost_are_counted(account, model, ask, sample):
    metered = account(model("m", USAGE, TruncatedAnswer("cut", usage=USAGE)))
    await metered.answer(ask())
    with pytest.raises(TruncatedAnswer):
        await metered.answer(ask())

    of_model = {"rpc": "Caption", "model": "m"}
    attempts = "vision_gateway_attempts_total"
    assert sample(attempts, **of_model, outcome="ok", reason="") == 1
    assert sample(attempts, **of_model, outcome="failed", reason="TRUNCATED_ANSWER") == 1
    cost = "vision_gateway_cost_usd_total"
    assert sample(cost, **of_model, service_tier="standard", kind="answer") == pytest.approx(2250e-9)
    assert sample(cost, **of_model, service_tier="standard", kind="failure") == pytest.approx(2250e-9)
    assert sample("vision_gateway_inflight", scope="m") == 0
