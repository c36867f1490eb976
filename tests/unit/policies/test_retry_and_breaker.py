"""Retries through the pauses of a breaker and the places of a limit, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from gateway.concurrency import Fixed
from gateway.domain import Answer, Completion, ImagePlan
from gateway.errors import BackendUnavailable, GatewayError, UpstreamRateLimited
from gateway.policies import Candidate
from gateway.policies.account import Account
from gateway.policies.breaker import Breaker
from gateway.policies.fallback import Fallback
from gateway.policies.limit import Limit
from gateway.policies.retry import Retry, RetryBudget
from gateway.pricing import FREE
from gateway.usage import Usage


class Upstream:
    """Stands in for a model: each call takes *takes_s* and fails with what *failing* gives for its number, if any."""

    def __init__(self, failing, takes_s=0.02):
        self.failing = failing
        self.takes_s = takes_s
        self.asked_at = []

    async def answer(self, ask):
        self.asked_at.append(asyncio.get_running_loop().time())
        failure = self.failing(len(self.asked_at))
        await asyncio.sleep(self.takes_s)
        if failure:
            raise failure
        return Answer("response", Completion("text", Usage(output=1)), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


@pytest.fixture
def clock(virtual_clock):
    return virtual_clock


@pytest.fixture
def stack(latency, metrics, clock):
    """Stacks the policies that `gateway/compose/model.py` stacks around a model, but for those about money."""

    def make(upstream, *, breaker=True):
        seen = {"latency": latency, "metrics": metrics, "clock": clock}
        chance = Random(7)  # noqa: S311  the same draws each time
        model = Account(upstream, name="m", provider="fake", price=FREE, **seen)
        model = Limit(model, name="m", concurrency=Fixed(64), max_queue=64, random=chance, **seen)
        if breaker:
            model = Breaker(model, name="m", failures=5, share=0.5, open_s=1.0, longest_open_s=30.0, **seen)
        rule = {"attempts": 3, "wait_s": 0.1, "longest_wait_s": 2.0}
        return Retry(model, name="m", **rule, budget=RetryBudget(), random=chance, **seen)

    return make


@pytest.fixture
def calls(virtual_time, ask):
    """Makes *count* calls, one each *apart_s* seconds, and gives how each ended and after how long."""

    def make(model, count=1, *, apart_s=0.0, seconds=10.0):
        async def one(after_s):
            await asyncio.sleep(after_s)
            started = asyncio.get_running_loop().time()
            try:
                end = await model.answer(replace(ask(), deadline=started + seconds))
            except GatewayError as exc:
                end = exc
            return end, asyncio.get_running_loop().time() - started

        async def all_of_them():
            return await asyncio.gather(*(one(number * apart_s) for number in range(count)))

        return virtual_time.run(all_of_them())

    return make


def first(count, failure):
    return lambda number: failure() if number <= count else None


def slow_down(seconds=None):
    return lambda: UpstreamRateLimited("slow down", retry_after_s=seconds)


def down():
    return BackendUnavailable("down")


def test_a_rate_limit_that_says_how_long_is_waited_out_and_then_answered(stack, calls):
    ((end, took_s),) = calls(stack(Upstream(first(1, slow_down(2.0)))))

    assert isinstance(end, Answer)
    assert 2.0 < took_s < 2.2


@pytest.mark.parametrize("failure", [slow_down(), down], ids=["429 without Retry-After", "500"])
def test_one_failure_is_backed_off_from_and_then_answered(stack, calls, failure):
    ((end, took_s),) = calls(stack(Upstream(first(1, failure))))

    assert isinstance(end, Answer)
    assert 0.1 < took_s < 0.4


def test_a_model_that_stays_down_is_asked_three_times_and_its_caller_told_to_come_back(stack, calls):
    upstream = Upstream(lambda _: down())
    ((end, took_s),) = calls(stack(upstream))

    assert (type(end), len(upstream.asked_at)) == (BackendUnavailable, 3)
    assert 0 < end.retry_after_s <= 2.0
    assert took_s < 2.0


def test_calls_that_were_all_told_to_wait_are_answered_though_one_alone_tries_first(stack, calls):
    upstream = Upstream(first(3, slow_down(2.0)), takes_s=0.5)

    ends = [end for end, _ in calls(stack(upstream), 3)]

    assert [type(end) for end in ends] == [Answer] * 3
    # Nobody comes before the time, and the two others not before the first is answered.
    assert [at for at in upstream.asked_at if at < 2.5] == [0.0, 0.0, 0.0]
    assert upstream.asked_at[4] >= upstream.asked_at[3] + 0.5


def test_while_a_model_is_down_it_is_hardly_asked_however_many_calls_come(stack, calls):
    upstream = Upstream(lambda _: down())

    ends = calls(stack(upstream), 3000, apart_s=0.02)

    assert {type(end) for end, _ in ends} == {BackendUnavailable}
    assert all(end.retry_after_s for end, _ in ends)
    # Five in a row, what was under way then, and one try each pause.
    assert len(upstream.asked_at) <= 20


def test_a_model_that_nobody_stands_in_for_is_asked_though_it_is_down_but_not_more_often_than_it_is_called(
    stack, calls, latency, metrics, clock
):
    upstream = Upstream(lambda _: down())
    model = stack(upstream)
    breaker = model._inner
    alone = Candidate("m", model, local=True, quality={}, quote=None, fit=None, is_open=lambda: breaker.is_open)
    fallback = Fallback([alone], latency=latency, metrics=metrics, clock=clock)

    calls(fallback, 3000, apart_s=0.02)

    assert len(upstream.asked_at) <= 1.01 * 3000


def test_without_a_breaker_retries_add_less_than_a_fifth_to_the_load_of_a_model_that_is_down(stack, calls):
    upstream = Upstream(lambda _: down())

    calls(stack(upstream, breaker=False), 3000, apart_s=0.005)

    assert 3000 < len(upstream.asked_at) <= 3600
