from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.domain import Attempt, CostBasis, Outcome, ServiceTier
from gateway.errors import BackendUnavailable, DeadlineExceeded, DeadlineTooShort, TruncatedAnswer
from gateway.ledger import Row
from gateway.policies.account import Account
from gateway.pricing import FREE, Price, Rates, per_million
from gateway.usage import Usage

PRICE = per_million("0.060", "0.330")
TIERED = Price("tiered", {ServiceTier.STANDARD: (Rates(1, 1, 3),), ServiceTier.PRIORITY: (Rates(2, 2, 6),)})
USAGE = Usage(input_text=10, output=5)


@pytest.fixture
def account(latency, metrics, clock):
    def make(inner, price=PRICE, **more):
        given = {"latency": latency, "metrics": metrics, "clock": clock, **more}
        return Account(inner, name="m", provider="fake", price=price, **given)

    return make


async def test_an_answer_is_priced_timed_and_recorded(account, model, ask):
    asked = ask()

    answer = await account(model("m", USAGE, takes_s=2.0)).answer(asked)

    assert asked.trace.attempts == [Attempt("m", Outcome.OK, "", 2.0, 10 * 60 + 5 * 330, USAGE, CostBasis.BILLED)]
    assert (answer.cost_basis, answer.price_version) == (CostBasis.BILLED, PRICE.version)


async def test_a_failure_that_was_billed_costs_what_it_used(account, model, ask):
    asked = ask()

    with pytest.raises(TruncatedAnswer):
        await account(model("m", TruncatedAnswer("cut", usage=USAGE))).answer(asked)

    assert asked.trace.attempts == [
        Attempt("m", Outcome.FAILED, "TRUNCATED_ANSWER", 0.0, 2250, USAGE, CostBasis.BILLED)
    ]


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


class MemoryLedger:
    """Stands in for the ledger: keeps rows, and commits them when it is told."""

    def __init__(self):
        self.rows = []
        self.committed = asyncio.get_running_loop().create_future()

    def write(self, row):
        self.rows.append(row)
        return self.committed


@pytest.fixture
async def ledger():
    return MemoryLedger()


async def test_an_answer_goes_out_once_its_row_is_committed(account, model, ask, ledger):
    asked = replace(ask(service_tier=ServiceTier.FLEX), principal="alice")
    metered = account(model("m", USAGE), ledger=ledger, provider_model="m-1", now_ns=lambda: 5_000_123)

    answering = asyncio.create_task(metered.answer(asked))
    await asyncio.sleep(0)
    is_early = answering.done()
    ledger.committed.set_result(True)
    await answering

    assert not is_early
    row = Row(
        time_us=5_000,
        request_id="id",
        principal="alice",
        rpc="Caption",
        model="m",
        provider="fake",
        provider_model="m-1",
        tier_asked="flex",
        tier_billed="standard",
        usage=USAGE,
        cost_nano_usd=2250,
        basis="billed",
        price_version=PRICE.version,
        outcome="ok",
        id=ledger.rows[0].id,
    )
    assert ledger.rows == [row]


async def test_a_failure_is_in_the_ledger_with_what_the_provider_told(account, model, ask, ledger):
    ledger.committed.set_result(True)
    failure = TruncatedAnswer("cut", usage=USAGE, service_tier="priority")
    failure.provider_model = "m-2026"

    with pytest.raises(TruncatedAnswer):
        await account(model("m", failure), TIERED, ledger=ledger, provider_model="m-1").answer(ask())

    row = SimpleNamespace(**ledger.rows[0].values())
    assert (row.outcome, row.reason, row.tier_billed) == ("failed", "TRUNCATED_ANSWER", "priority")
    assert (row.provider_model, row.cost_nano_usd, row.basis) == ("m-2026", 50, "billed")


@pytest.mark.parametrize(("price", "cost", "basis"), [(PRICE, 10 * 60, "estimated"), (FREE, 0, "free")])
async def test_an_attempt_that_is_given_up_costs_an_estimate_of_what_was_sent(
    account, model, ask, ledger, price, cost, basis
):
    inner = model("m")

    async def given_up(asked):
        asked.trace.asked = Usage(input_text=10)
        raise asyncio.CancelledError

    inner.answer = given_up
    asked = ask()

    with pytest.raises(asyncio.CancelledError):
        await account(inner, price, ledger=ledger).answer(asked)

    assert [(row.reason, row.cost_nano_usd, row.basis) for row in ledger.rows] == [("CANCELLED", cost, basis)]
    assert asked.trace.attempts[0].cost_nano_usd == cost


async def test_an_attempt_that_is_given_up_before_the_model_was_asked_costs_nothing(account, model, ask, ledger):
    asked = ask()
    asked.trace.asked = Usage(input_text=10)  # Of an earlier attempt.

    with pytest.raises(asyncio.CancelledError):
        await account(model("m", asyncio.CancelledError()), ledger=ledger).answer(asked)

    assert ledger.rows[0].cost_nano_usd == 0


async def test_a_call_that_had_no_time_to_ask_anybody_is_skipped_not_failed(account, model, ask, sample):
    asked = ask()

    with pytest.raises(DeadlineTooShort):
        await account(model("m", DeadlineTooShort("too few"), takes_s=0.5)).answer(asked)

    assert asked.trace.attempts == [Attempt("m", Outcome.SKIPPED, "DEADLINE_TOO_SHORT", 0.5)]
    skipped = {"outcome": "skipped", "reason": "DEADLINE_TOO_SHORT"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="m", **skipped) == 1
    assert sample("vision_gateway_upstream_duration_seconds_count", rpc="Caption", model="m") is None


async def test_how_long_answers_take_is_learned_and_failures_teach_nothing(account, model, ask, latency):
    metered = account(model("m", *[USAGE] * 5, TruncatedAnswer("cut"), takes_s=2.0))

    for _ in range(5):
        await metered.answer(ask())
    with pytest.raises(TruncatedAnswer):
        await metered.answer(ask(seconds=100.0))

    assert latency.expected_s("Caption", "m") == 2.0


async def test_a_failure_whose_tokens_were_estimated_is_an_estimate(account, model, ask, ledger):
    ledger.committed.set_result(True)
    failure = TruncatedAnswer("cut", usage=USAGE)
    failure.estimated = True
    asked = ask()

    with pytest.raises(TruncatedAnswer):
        await account(model("m", failure), ledger=ledger).answer(asked)

    assert (ledger.rows[0].basis, asked.trace.attempts[0].cost_basis) == ("estimated", CostBasis.ESTIMATED)


class Hanging:
    """Stands in for a model that was asked and told nothing until the time was up."""

    def __init__(self, told):
        self._told = told

    async def answer(self, ask):
        ask.trace.asked = USAGE
        raise DeadlineExceeded("the time is up", usage=self._told)


@pytest.mark.parametrize(("told", "usage", "basis"), [(None, USAGE, "estimated"), (Usage(), Usage(), "billed")])
async def test_an_attempt_that_took_too_long_costs_what_was_sent_unless_the_model_told(
    account, ask, told, usage, basis
):
    asked = ask()

    with pytest.raises(DeadlineExceeded):
        await account(Hanging(told)).answer(asked)

    (attempt,) = asked.trace.attempts
    assert (attempt.usage, attempt.cost_basis.value) == (usage, basis)
