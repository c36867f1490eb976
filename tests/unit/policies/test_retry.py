from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest

from gateway.domain import Outcome
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    Overloaded,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.policies.account import Account
from gateway.policies.retry import Retry, RetryBudget
from gateway.pricing import FREE


def down(times=1):
    return [BackendUnavailable("down") for _ in range(times)]


@pytest.fixture
def waits():
    return []


@pytest.fixture
def retry(latency, metrics, clock, random, waits):
    def make(inner, *, recorded=True, budget=None, **rule):
        if recorded:
            inner = Account(inner, name="m", provider="fake", price=FREE, latency=latency, metrics=metrics, clock=clock)

        async def sleep(seconds):
            waits.append(seconds)
            clock.now += seconds

        return Retry(
            inner,
            name="m",
            **{"attempts": 3, "wait_s": 0.1, "longest_wait_s": 2.0, "random": random, "sleep": sleep, **rule},
            budget=budget or RetryBudget(),
            latency=latency,
            metrics=metrics,
            clock=clock,
        )

    return make


async def failure(retrying, asked):
    with pytest.raises(GatewayError) as caught:
        await retrying.answer(asked)
    return caught.value


@pytest.mark.parametrize("exc", [*down(), UpstreamRateLimited("slow down")], ids=lambda exc: exc.reason)
async def test_a_failure_that_may_pass_is_tried_again(retry, model, ask, waits, sample, exc):
    asked = ask()

    answer = await retry(model("m", exc)).answer(asked)

    assert (answer.model, waits) == ("m", [0.1])
    assert [attempt.outcome for attempt in asked.trace.attempts] == [Outcome.FAILED, Outcome.OK]
    assert sample("vision_gateway_retries_total", model="m", reason=exc.reason, outcome="retried") == 1


@pytest.mark.parametrize(
    "exc",
    [
        DeadlineExceeded("late"),
        Refused("no"),
        UnusableAnswer("prose"),
        TruncatedAnswer("cut"),
        UpstreamAuth("key"),
        UpstreamAccount("credit"),
        Overloaded("busy"),
        InternalError("id"),
    ],
    ids=lambda exc: exc.reason,
)
async def test_whatever_would_fail_again_or_cost_for_nothing_is_not(retry, model, ask, exc):
    inner = model("m", exc)

    assert await failure(retry(inner), ask()) is exc
    assert len(inner.asked) == 1


async def test_a_model_that_keeps_failing_is_asked_so_often_and_the_caller_told_when_to_come_back(
    retry, model, ask, waits
):
    inner = model("m", *down(9))

    told = await failure(retry(inner), ask())

    assert (len(inner.asked), len(waits), type(told)) == (3, 2, BackendUnavailable)
    assert told.retry_after_s == 0.1


async def test_waits_are_drawn_from_the_least_up_to_three_times_the_last_one(retry, model, ask, waits):
    drawn = []

    class Most(Random):
        def uniform(self, a, b):
            drawn.append((a, b))
            return b

    await failure(retry(model("m", *down(9)), attempts=5, random=Most()), ask(seconds=60))

    assert waits == pytest.approx([0.3, 0.9, 2.0, 2.0])
    assert {least for least, _ in drawn} == {0.1}


async def test_what_the_model_says_is_waited_for_when_nobody_else_is_to_be_asked(retry, model, ask, waits):
    asked = ask()

    answer = await retry(model("m", UpstreamRateLimited("slow down", retry_after_s=2.0))).answer(asked)

    assert (answer.model, waits) == ("m", [pytest.approx(2.05)])
    assert asked.trace.queue_s == pytest.approx(2.05)


async def test_a_wait_that_leaves_no_time_to_answer_is_told_to_the_caller_at_once(retry, model, ask, takes, waits):
    takes("m", 3.0)
    inner = model("m", UpstreamRateLimited("slow down", retry_after_s=2.0))

    told = await failure(retry(inner), ask(seconds=5.0))

    assert (told.retry_after_s, len(inner.asked), waits) == (2.0, 1, [])


async def test_a_backoff_that_leaves_no_time_to_answer_is_not_begun(retry, model, ask, takes, waits):
    takes("m", 3.0)

    await failure(retry(model("m", *down())), ask(seconds=3.05))

    assert waits == []


async def test_with_another_model_to_ask_nobody_waits_for_what_this_one_says(retry, model, ask, waits):
    limited = UpstreamRateLimited("slow down", retry_after_s=0.1)

    assert await failure(retry(model("m", limited)), replace(ask(), has_next=True)) is limited
    assert waits == []


async def test_with_another_model_to_ask_there_is_one_quick_try(retry, model, ask, waits):
    inner = model("m", *down(9))

    await failure(retry(inner), replace(ask(), has_next=True))

    assert (len(inner.asked), waits) == (2, [0.1])


async def test_a_last_resort_that_fails_is_not_tried_again_unless_it_says_when(retry, model, ask, waits):
    asked = replace(ask(), last_resort=True)

    await failure(retry(model("m", *down())), asked)
    answer = await retry(model("m", UpstreamRateLimited("slow down", retry_after_s=2.0))).answer(asked)

    assert (answer.model, waits) == ("m", [pytest.approx(2.05)])


async def test_a_model_that_was_passed_by_is_not_tried_again(retry, model, ask):
    inner = model("m", BackendUnavailable("paused", retry_after_s=0.5))

    await failure(retry(inner, recorded=False), ask())

    assert len(inner.asked) == 1


async def test_what_an_earlier_call_to_the_model_came_to_says_nothing(retry, model, ask):
    inner, asked = model("m", BackendUnavailable("paused")), ask()
    await failure(retry(model("m", Refused("no"))), asked)

    await failure(retry(inner, recorded=False), asked)

    assert len(inner.asked) == 1


@pytest.mark.parametrize(("seconds", "attempts"), [(0.9, 2), (2.9, 2), (3.1, 1)])
async def test_a_model_that_was_silent_before_it_failed_is_not_tried_again(retry, model, ask, takes, seconds, attempts):
    takes("m", 3.0)
    inner = model("m", *down(), takes_s=seconds)

    await asyncio.gather(retry(inner).answer(ask(seconds=60)), return_exceptions=True)

    assert len(inner.asked) == attempts


@pytest.mark.parametrize(("committed", "attempts"), [(False, 2), (True, 1)])
async def test_a_call_that_has_reached_its_caller_is_nobody_else_s_to_answer(retry, model, ask, committed, attempts):
    inner = model("m", *down())
    asked = replace(ask(), sink=SimpleNamespace(committed=committed))

    await asyncio.gather(retry(inner).answer(asked), return_exceptions=True)

    assert len(inner.asked) == attempts


async def test_no_more_calls_than_the_budget_allows_try_again_at_once(retry, model, ask, sample):
    budget, go = RetryBudget(), asyncio.Event()
    waiting = retry(model("m", *down(4)), budget=budget, sleep=lambda _: go.wait())
    calls = [asyncio.create_task(waiting.answer(ask())) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    refused = [call for call in calls if call.done()]
    go.set()

    assert [type(call.exception()) for call in refused] == [BackendUnavailable]
    assert len(await asyncio.gather(*(call for call in calls if call not in refused))) == 3
    counted = {"model": "m", "reason": "BACKEND_UNAVAILABLE"}
    assert sample("vision_gateway_retries_total", **counted, outcome="refused") == 1
    assert sample("vision_gateway_retries_total", **counted, outcome="retried") == 3


def test_a_fifth_of_the_calls_in_flight_may_try_again_and_three_at_least():
    budget = RetryBudget()
    for _ in range(3):
        budget.enter()
    few = [budget.spend() for _ in range(4)]
    for _ in range(22):
        budget.enter()
    many = [budget.spend() for _ in range(3)]
    budget.leave(spent=True)

    assert (few, many, budget.spend()) == ([True, True, True, False], [True, True, False], True)


async def test_a_call_given_up_while_it_waits_leaves_its_part_of_the_budget(retry, model, ask):
    budget = RetryBudget(least=1)
    waiting = retry(model("m", *down()), budget=budget, sleep=lambda _: asyncio.Event().wait())
    call = asyncio.create_task(waiting.answer(ask()))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert (await retry(model("m", *down()), budget=budget).answer(ask())).model == "m"


async def test_it_is_as_ready_as_its_model(retry, model):
    assert await retry(model("m")).ready()
    assert not await retry(model("m", is_ready=False)).ready()
