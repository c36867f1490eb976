from __future__ import annotations

import asyncio

import pytest

from gateway.domain import Attempt, CostBasis, Outcome
from gateway.errors import BackendUnavailable, TruncatedAnswer
from gateway.policies.account import Account
from gateway.pricing import FREE, per_million
from gateway.usage import Usage

PRICE = per_million("0.060", "0.330")
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
