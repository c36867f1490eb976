from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.budget import Balance, StoreFailed, Window
from gateway.budget.shielded import Shielded
from gateway.budget.sqlite import SqliteStore
from gateway.domain import Outcome, Quote
from gateway.errors import BackendUnavailable, BudgetExceeded, StoreUnavailable, TruncatedAnswer, UnsupportedByModel
from gateway.latency import Latency
from gateway.policies.account import Account
from gateway.policies.budget import Budget, Budgets
from gateway.pricing import per_million
from gateway.usage import Usage

PRICE = per_million("0.060", "0.330")
USAGE = Usage(input_text=10, output=5)
BILL = 10 * 60 + 5 * 330
WORST = 4000
LIMIT = 10_000
NOON = datetime(2026, 2, 28, 12, 30, tzinfo=UTC).timestamp()


class Broken:
    """Stands in for a store that is down, for the operations named."""

    def __init__(self, inner, *operations):
        self._inner = inner
        self._operations = operations

    def __getattr__(self, name):
        async def fail(*_):
            raise StoreFailed

        return fail if name in self._operations else getattr(self._inner, name)


@pytest.fixture
async def store(tmp_path):
    opened = Shielded(SqliteStore(tmp_path / "budgets.db"))
    yield opened
    await opened.aclose()


@pytest.fixture
def budget(store, metrics, clock):
    def make(inner, *, store=store, fail_open=False, quote=lambda _: Quote(0, 0, 0, 0, WORST)):
        limits = {"anna": {Window.DAY: LIMIT}}
        budgets = Budgets(store, limits, fail_open=fail_open, metrics=metrics, now=lambda: NOON)
        account = Account(
            inner, name="m", provider="fake", price=PRICE, latency=Latency(), metrics=metrics, clock=clock
        )
        return Budget(account, name="m", quote=quote, budgets=budgets, metrics=metrics, clock=clock)

    return make


@pytest.fixture
def of_anna(ask):
    return replace(ask(), principal="anna")


async def day(store):
    return (await store.balance("anna", NOON))[Window.DAY]


async def test_a_call_is_charged_what_it_cost(budget, model, of_anna, store):
    await budget(model("m", USAGE)).answer(of_anna)

    assert await day(store) == Balance(BILL, 0)


@pytest.mark.parametrize(
    ("failure", "charged"),
    [(TruncatedAnswer("cut", usage=USAGE), BILL), (BackendUnavailable("down"), 0), (ValueError("a bug"), 0)],
)
async def test_a_failure_is_charged_what_it_cost(budget, model, of_anna, store, failure, charged):
    with pytest.raises(type(failure)):
        await budget(model("m", failure)).answer(of_anna)

    assert await day(store) == Balance(charged, 0)


async def test_what_earlier_models_cost_is_not_charged_twice(budget, model, of_anna, store):
    with pytest.raises(TruncatedAnswer):
        await budget(model("m", TruncatedAnswer("cut", usage=USAGE))).answer(of_anna)
    await budget(model("m", USAGE)).answer(of_anna)

    assert await day(store) == Balance(2 * BILL, 0)


async def test_a_call_whose_worst_case_does_not_fit_is_not_asked(budget, model, of_anna, sample):
    inner = model("m", *[Usage(input_text=0, output=20)] * 2)
    counted = budget(inner)
    await counted.answer(of_anna)

    with pytest.raises(BudgetExceeded) as refused:
        await counted.answer(of_anna)

    exc = refused.value
    assert (exc.subject, exc.elsewhere, len(inner.asked)) == ("principal:anna", True, 1)
    assert (exc.metadata["spent_nano_usd"], exc.metadata["resets_at"]) == ("6600", "2026-03-01T00:00Z")
    assert exc.retry_after_s == 11.5 * 3600
    assert of_anna.trace.attempts[-1].outcome is Outcome.SKIPPED
    assert sample("vision_gateway_shed_total", reason="BUDGET_EXCEEDED") == 1


async def test_a_principal_without_a_budget_pays_no_heed(budget, model, ask, store):
    answer = await budget(model("m"), store=Broken(store, "reserve")).answer(ask())

    assert answer.model == "m"


async def test_a_model_that_cannot_do_it_says_so_itself(budget, model, of_anna, store):
    def unsupported(_):
        raise UnsupportedByModel("from the quote")

    with pytest.raises(UnsupportedByModel, match="from the model"):
        await budget(model("m", UnsupportedByModel("from the model")), quote=unsupported).answer(of_anna)

    assert await day(store) == Balance(0, 0)


async def test_the_store_down_and_closed_asks_nobody(budget, model, of_anna, store, sample):
    inner = model("m")

    with pytest.raises(StoreUnavailable):
        await budget(inner, store=Broken(store, "reserve")).answer(of_anna)

    assert inner.asked == []
    assert sample("vision_gateway_store_failures_total", operation="reserve", decision="closed") == 1


async def test_the_store_down_and_open_asks(budget, model, of_anna, store, sample):
    answer = await budget(model("m"), store=Broken(store, "reserve"), fail_open=True).answer(of_anna)

    assert answer.model == "m"
    assert sample("vision_gateway_store_failures_total", operation="reserve", decision="open") == 1


async def test_a_bill_that_cannot_be_settled_leaves_the_answer_and_the_reservation(
    budget, model, of_anna, store, sample
):
    await budget(model("m"), store=Broken(store, "settle")).answer(of_anna)

    assert await day(store) == Balance(0, WORST)
    assert sample("vision_gateway_store_failures_total", operation="settle", decision="expires") == 1


async def test_what_is_left_is_shown(budget, model, of_anna, store, metrics, sample):
    await budget(model("m", USAGE)).answer(of_anna)
    budgets = Budgets(store, {"anna": {Window.DAY: LIMIT}}, fail_open=False, metrics=metrics, now=lambda: NOON)

    await budgets.look()

    left = sample("vision_gateway_budget_remaining_usd", principal="anna", window="day")
    assert left == pytest.approx((LIMIT - BILL) * 1e-9)
    assert sample("vision_gateway_budget_usd", principal="anna", window="day") == pytest.approx(LIMIT * 1e-9)


async def test_a_budget_that_is_not_configured_any_more_is_shown_no_more(store, metrics, sample):
    budgets = Budgets(store, {"anna": dict.fromkeys(Window, LIMIT)}, fail_open=False, metrics=metrics, now=lambda: NOON)
    await budgets.look()

    budgets.hold({"anna": {Window.DAY: LIMIT}}, fail_open=False)
    await budgets.look()

    for gauge in ("vision_gateway_budget_remaining_usd", "vision_gateway_budget_usd"):
        shown = {window: sample(gauge, principal="anna", window=window.value) for window in Window}
        assert [window for window in Window if shown[window]] == [Window.DAY]


async def test_a_cancelled_call_keeps_nothing_reserved(budget, of_anna, tmp_path):
    store = Shielded(SqliteStore(tmp_path / "cancelled.db"))
    asked = asyncio.Event()

    class Thinking:
        async def answer(self, _):
            asked.set()
            await asyncio.Event().wait()

    call = asyncio.create_task(budget(Thinking(), store=store).answer(of_anna))
    await asked.wait()
    call.cancel()
    await asyncio.wait([call])
    await store.aclose()

    assert call.cancelled()
    reopened = SqliteStore(tmp_path / "cancelled.db")
    assert await day(reopened) == Balance(0, 0)
    await reopened.aclose()


async def test_a_call_cancelled_while_it_reserves_keeps_nothing_reserved(budget, model, of_anna, tmp_path):
    store = Shielded(SqliteStore(tmp_path / "cancelled.db"))
    call = asyncio.create_task(budget(model("m"), store=store).answer(of_anna))
    # Once for the call to start, once for its reservation to.
    for _ in range(2):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await store.aclose()

    assert (call.cancelled(), of_anna.trace.attempts) == (True, [])
    reopened = SqliteStore(tmp_path / "cancelled.db")
    assert await day(reopened) == Balance(0, 0)
    await reopened.aclose()
