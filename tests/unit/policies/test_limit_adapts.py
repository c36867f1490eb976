"""A limit under load, in virtual time."""

from __future__ import annotations

import asyncio
import statistics
from random import Random

import pytest

from gateway.concurrency import Fixed, Gradient
from gateway.domain import Answer, Ask, Completion, ImagePlan, Options, SourceImage
from gateway.errors import DeadlineExceeded, GatewayError, Overloaded
from gateway.policies.account import Account
from gateway.policies.limit import Limit
from gateway.pricing import FREE
from gateway.usage import Usage

IMAGES = (SourceImage(b"x", "image/png", 1, 1),)


class Upstream:
    """Stands in for a model: *seconds* gives how long a call takes, by the time and the calls in flight."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.inflight = 0

    async def answer(self, ask):
        self.inflight += 1
        now = asyncio.get_running_loop().time()
        takes_s = self.seconds(now, self.inflight)
        try:
            await asyncio.sleep(min(takes_s, ask.deadline - now))
        finally:
            self.inflight -= 1
        if takes_s > ask.deadline - now:
            raise DeadlineExceeded("late")
        return Answer("response", Completion("text", Usage(output=1)), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


@pytest.fixture
def limit(latency, metrics, virtual_clock):
    def make(upstream, concurrency, *, max_queue=64):
        seen = {"latency": latency, "metrics": metrics, "clock": virtual_clock}
        model = Account(upstream, name="m", provider="fake", price=FREE, **seen)
        chance = Random(7)  # noqa: S311  the same draws each time
        return Limit(model, name="m", concurrency=concurrency, max_queue=max_queue, random=chance, **seen)

    return make


async def call(limited, query, seconds):
    """Gives an answer or a failure, and after how long."""
    started = asyncio.get_running_loop().time()
    try:
        end = await limited.answer(Ask(query, IMAGES, Options(), started + seconds, "id"))
    except GatewayError as exc:
        end = exc
    return end, asyncio.get_running_loop().time() - started


@pytest.fixture
def load(virtual_time, ask, sample):
    """Loads a limit until *until_s*; gives the limit as it was each second, and how each call ended and when."""
    query, now = ask().query, virtual_time.get_loop().time

    async def work(limited, until_s, seconds):
        ends = []
        while now() < until_s:
            end, took_s = await call(limited, query, seconds)
            ends.append((end, took_s))
            # Also lets the time go on, which is virtual: else one who is shed at once would come again for ever.
            await asyncio.sleep(getattr(end, "retry_after_s", 0.0) or 0.0)
        return ends

    async def arrive(limited, until_s, seconds, per_s):
        running = [asyncio.create_task(call(limited, query, seconds)) async for _ in each(until_s, 1 / per_s)]
        return await asyncio.gather(*running)

    async def watch(until_s):
        return [sample("vision_gateway_model_limit", model="m") async for _ in each(until_s, 1.0)][1:]

    async def each(until_s, seconds):
        while now() < until_s:
            yield
            await asyncio.sleep(seconds)

    def make(limited, until_s, *, workers=0, per_s=0, seconds=60.0):
        async def all_of_it():
            arriving = [arrive(limited, until_s, seconds, per_s)] if per_s else []
            working = [work(limited, until_s, seconds) for _ in range(workers)]
            return await asyncio.gather(watch(until_s + 1), *arriving, *working)

        limits, *ends = virtual_time.run(all_of_it())
        return limits, [end for some in ends for end in some]

    return make


@pytest.mark.parametrize(
    ("ceiling", "arriving"), [(64, {"workers": 100}), (16, {"per_s": 200})], ids=["closed loop", "open loop"]
)
def test_it_halves_within_ten_seconds_of_a_model_that_turns_slow_and_recovers_within_a_minute(
    limit, load, virtual_clock, ceiling, arriving
):
    slow_s = range(12, 32)
    upstream = Upstream(lambda now, _: 2.0 if int(now) in slow_s else 0.1)

    limits, _ = load(limit(upstream, Gradient(ceiling, virtual_clock), max_queue=500), 50, **arriving)

    assert limits[slow_s.start - 1] == ceiling
    assert max(limits[slow_s.start + 10 : slow_s.stop]) <= ceiling / 2
    assert limits[-1] >= 0.9 * ceiling
    assert min(limits) >= 4


def test_it_finds_how_many_calls_a_model_can_take_before_they_only_wait_for_each_other(limit, load, virtual_clock):
    eight_at_once = Upstream(lambda _, inflight: 0.1 * max(1.0, inflight / 8))

    limits, ends = load(limit(eight_at_once, Gradient(200, virtual_clock), max_queue=500), 60, workers=200)

    assert 8 <= statistics.mean(limits[30:]) <= 32
    assert sum(isinstance(end, Answer) for end, _ in ends) / 60 >= 0.9 * 80


def test_at_four_times_what_a_model_can_take_it_does_as_much_and_the_rest_is_told_at_once(limit, load):
    eight_at_once = Upstream(lambda _, __: 0.3)
    most_per_s = 8 / 0.3

    _, ends = load(limit(eight_at_once, Fixed(8)), 20, per_s=4 * most_per_s, seconds=3.0)

    answered = [took_s for end, took_s in ends if isinstance(end, Answer)]
    shed = [(end, took_s) for end, took_s in ends if not isinstance(end, Answer)]
    assert len(answered) >= 0.95 * 20 * most_per_s
    assert max(answered) <= 3.0
    assert {type(end) for end, _ in shed} == {Overloaded}
    assert max(took_s for _, took_s in shed) <= 0.05
    assert all(0 < end.retry_after_s < 5 for end, _ in shed)


def test_at_four_times_what_a_model_can_take_those_who_are_let_in_take_less_than_twice_as_long(limit, load):
    takes_s, until_s, burst_s = 0.3, 20, 4
    eight_at_once = Upstream(lambda _, __: takes_s)

    _, ends = load(limit(eight_at_once, Fixed(8)), until_s, per_s=4 * 8 / takes_s, seconds=60.0)

    # In the order in which they came; the burst is waited for.
    settled = ends[burst_s * len(ends) // until_s :]
    answered = [took_s for end, took_s in settled if isinstance(end, Answer)]
    assert max(answered) < 2 * takes_s
    assert len(answered) >= 0.95 * (until_s - burst_s) * 8 / takes_s


def test_calls_that_can_wait_for_little_are_not_queued_for_more(limit, load):
    chance = Random(7)  # noqa: S311  the same draws each time
    eight_at_once = Upstream(lambda _, __: chance.uniform(0.1, 0.5))

    _, ends = load(limit(eight_at_once, Fixed(8)), 20, per_s=100, seconds=1.0)

    answered = [took_s for end, took_s in ends if isinstance(end, Answer)]
    shed = sorted(took_s for end, took_s in ends if isinstance(end, Overloaded))
    assert len(answered) >= 0.95 * 20 * 8 / 0.3
    assert max(answered) <= 1.0
    assert shed[int(0.99 * len(shed))] <= 0.05
