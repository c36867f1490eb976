"""Equal calls at several processes that share a file of answers, in virtual time; their models are scripted."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.cache import LEASE_S, StoreFailed
from gateway.cache.behind import WriteBehind
from gateway.cache.sqlite import SqliteStore
from gateway.domain import Answer, Attempt, CacheOutcome, CachePolicy, Completion, ImagePlan, Outcome, ServiceTier
from gateway.errors import DeadlineExceeded, Refused
from gateway.policies.cache import Cache
from gateway.usage import Usage

HIT, MISS, COALESCED = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED
# Seconds that the model takes.
TAKES_S = 2.0


class Timed:
    """Stands in for a model that takes its time, then answers or fails."""

    def __init__(self):
        self.asked_at = []
        self.takes_s = TAKES_S
        self.failure = None

    async def answer(self, ask):
        self.asked_at.append(_now())
        await asyncio.sleep(self.takes_s)
        ask.trace.attempts.append(Attempt("m", Outcome.FAILED if self.failure else Outcome.OK, cost_nano_usd=7))
        if self.failure:
            raise self.failure
        return Answer(object(), Completion("text", Usage(output=5)), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


class Spied(SqliteStore):
    """The real store, which writes down when it was looked at, and fails while it is told to."""

    def __init__(self, *args, **given):
        super().__init__(*args, **given)
        self.looked_at = []
        self.fails = False

    async def get_or_claim(self, claim):
        self.looked_at.append(_now())
        if self.fails:
            raise StoreFailed("down")
        return await super().get_or_claim(claim)


@dataclass(frozen=True)
class Process:
    """What a process has of its own."""

    cache: Cache
    model: Timed
    file: Spied
    store: WriteBehind

    def ask(self, *asks, after_s=0.0):
        return asyncio.gather(*(self._ask(each, after_s) for each in asks), return_exceptions=True)

    async def _ask(self, ask, after_s):
        await asyncio.sleep(after_s)
        return await self.cache.answer(ask)

    def die(self):
        """What it has claimed, it neither renews nor lets go of from now on."""
        self.store._paused_until = float("inf")


def _now():
    return round(asyncio.get_running_loop().time(), 3)


@pytest.fixture
def clock(virtual_clock):
    return virtual_clock


@pytest.fixture
def start(cached, clock, latency, tmp_path):
    """Starts processes."""

    def started():
        file = Spied(tmp_path / "cache.db", ttl_s=60, max_bytes=1 << 20, now=clock)
        store = WriteBehind(file, clock=clock, patience_s=1.0)
        model = Timed()
        return Process(cached(model, store=store, latency=latency), model, file, store)

    return started


@pytest.fixture
def run(virtual_time):
    """Runs what a test does with its processes, and closes their stores."""

    def ran(work: Any, *processes):
        async def done():
            try:
                return await work
            finally:
                for each in processes:
                    await each.store.aclose()

        return virtual_time.run(done())

    return ran


def texts(ends):
    return [end.completion.text if isinstance(end, Answer) else type(end) for end in ends]


def test_calls_at_three_processes_are_one_and_the_one_that_asked_pays(start, run, ask, cache_outcomes):
    processes = [start() for _ in range(3)]
    asks = [[ask() for _ in range(4)] for _ in processes]

    async def work():
        calls = [each.ask(*own, after_s=0.1 * n) for n, (each, own) in enumerate(zip(processes, asks, strict=True))]
        return [end for ends in await asyncio.gather(*calls) for end in ends]

    ends = run(work(), *processes)

    assert texts(ends) == ["text"] * 12
    assert [len(each.model.asked_at) for each in processes] == [1, 0, 0]
    flat = [each for own in asks for each in own]
    assert Counter(each.trace.cache for each in flat) == {MISS: 1, COALESCED: 11}
    assert sum(attempt.cost_nano_usd for each in flat for attempt in each.trace.attempts) == 7
    assert [each.trace.attempts for own in asks[1:] for each in own] == [[]] * 8
    assert cache_outcomes("miss", "coalesced", "hit", "error") == [1, 11, 0, 0]


def test_who_waits_looks_again_by_and_by_and_has_the_answer_soon_after_it_is_there(start, run, ask):
    one, other = start(), start()
    asked = ask()

    async def work():
        await asyncio.gather(one.ask(ask()), other.ask(asked, after_s=1.0))
        return _now()

    ended_at = run(work(), one, other)

    assert other.file.looked_at == [1.0, 1.025, 1.075, 1.175, 1.375, 1.625, 1.875, 2.125]
    assert ended_at == 2.125
    assert asked.trace.upstream_s == pytest.approx(1.125)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_when_the_one_that_asks_has_no_answer_another_one_asks(start, run, ask, cache_outcomes, how):
    processes = [start() for _ in range(3)]
    first, *others = processes
    first.model.failure = Refused("m")
    asks = [ask() for _ in others]

    async def work():
        leader = first.ask(ask())
        waiting = [each.ask(asked, after_s=0.1) for each, asked in zip(others, asks, strict=True)]
        await asyncio.sleep(1.0)
        if how == "cancelled":
            leader.cancel()
        return [end for ends in await asyncio.gather(*waiting) for end in ends]

    ends = run(work(), *processes)

    assert texts(ends) == ["text", "text"]
    assert sorted(len(each.model.asked_at) for each in others) == [0, 1]
    assert {each.trace.cache for each in asks} == {MISS, COALESCED}
    assert cache_outcomes("miss", "coalesced") == [2, 1]


def test_one_that_was_killed_holds_others_up_for_its_lease(start, run, ask):
    killed, *others = [start() for _ in range(3)]
    killed.model.takes_s = 1000.0

    async def work():
        killed.ask(ask(seconds=2000))
        await asyncio.sleep(0.5)
        killed.die()
        calls = [each.ask(ask(seconds=60)) for each in others]
        return [end for ends in await asyncio.gather(*calls) for end in ends]

    ends = run(work(), *others)

    [asked_at] = [at for each in others for at in each.model.asked_at]
    assert texts(ends) == ["text", "text"]
    assert LEASE_S < asked_at < LEASE_S + 0.5


def test_who_waits_asks_while_a_third_of_the_time_is_left(start, run, ask, cache_outcomes):
    one, other = start(), start()
    one.model.takes_s = 1000.0
    asked = ask(seconds=9.0)

    async def work():
        hanging = one.ask(ask(seconds=2000))
        ends = await other.ask(asked)
        hanging.cancel()
        return ends

    ends = run(work(), one, other)

    assert (texts(ends), other.model.asked_at, asked.trace.cache) == (["text"], [6.0], MISS)
    assert cache_outcomes("miss", "coalesced") == [2, 0]


def test_who_waits_asks_while_there_is_time_for_the_model_where_it_is_known_to_take_longer(start, run, ask, latency):
    one, other = start(), start()
    for _ in range(5):
        latency.observe("Caption", "m", 7.0)
    one.model.takes_s = 1000.0

    async def work():
        hanging = one.ask(ask(seconds=2000))
        await other.ask(ask(seconds=9.0))
        hanging.cancel()

    run(work(), one, other)

    assert other.model.asked_at == [2.0]


def test_who_has_no_time_to_wait_asks_at_once(start, run, ask, latency):
    one, other = start(), start()
    for _ in range(5):
        latency.observe("Caption", "m", 7.0)

    async def work():
        await asyncio.gather(one.ask(ask()), other.ask(ask(seconds=6.0)))

    run(work(), one, other)

    assert other.model.asked_at == [0.0]


def test_when_the_store_fails_those_who_wait_ask_at_once(start, run, ask, cache_outcomes):
    one, other = start(), start()

    async def work():
        calls = [one.ask(ask()), other.ask(ask(), ask())]
        await asyncio.sleep(1.0)
        other.file.fails = True
        return [end for ends in await asyncio.gather(*calls) for end in ends]

    ends = run(work(), one, other)

    [asked_at] = other.model.asked_at
    assert texts(ends) == ["text"] * 3
    assert 1.0 < asked_at <= 1.25
    assert cache_outcomes("miss", "error", "coalesced") == [1, 1, 1]


def test_the_time_of_whoever_waits_is_its_own(start, run, ask):
    one, other = start(), start()
    hasty = ask(seconds=0.9)

    async def work():
        leader = one.ask(ask())
        waiting = other.ask(ask(), hasty)
        return await waiting, await leader

    (patient, late), _ = run(work(), one, other)

    assert (patient.completion.text, type(late)) == ("text", DeadlineExceeded)
    assert other.model.asked_at == []


def test_when_the_first_of_those_who_wait_goes_the_others_still_get_the_answer(start, run, ask):
    one, other = start(), start()
    asked = ask()

    async def work():
        leader = one.ask(ask())
        first, second = other.ask(ask()), other.ask(asked)
        await asyncio.sleep(1.0)
        first.cancel()
        return await second, await leader

    ends, _ = run(work(), one, other)

    assert (texts(ends), other.model.asked_at, asked.trace.cache) == (["text"], [], COALESCED)


class Reader:
    """Stands in for a caller who reads text as it is written."""

    committed = False


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"cache": CachePolicy.REFRESH}, {}),
        ({"cache": CachePolicy.BYPASS}, {}),
        ({"service_tier": ServiceTier.FLEX}, {}),
        ({}, {"sink": Reader()}),
        ({}, {"last_resort": True}),
    ],
    ids=["refresh", "bypass", "flex", "a reader", "the last resort"],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_calls_that_begin_anew_or_that_the_model_treats_otherwise_are_not_waited_for(
    start, run, ask, options, fields, is_first
):
    one, other = start(), start()
    asks = [replace(ask(**options), **fields), ask()][:: 1 if is_first else -1]

    async def work():
        return await asyncio.gather(one.ask(asks[0]), other.ask(asks[1], after_s=0.1))

    [first], [second] = run(work(), one, other)

    assert texts([first, second]) == ["text", "text"]
    assert (one.model.asked_at, other.model.asked_at) == ([0.0], [0.1])


def test_an_answer_that_is_not_kept_is_nobody_else_s(start, run, ask):
    one, other = start(), start()
    cut, asked = ask(max_cost_nano_usd=100), ask()
    answer = one.model.answer

    async def after_a_paid_failure(asked):
        asked.trace.attempts.append(Attempt("m", Outcome.FAILED, "X", cost_nano_usd=5))
        return await answer(asked)

    one.model.answer = after_a_paid_failure

    async def work():
        return await asyncio.gather(one.ask(cut), other.ask(asked))

    run(work(), one, other)

    assert (len(other.model.asked_at), asked.trace.cache) == (1, MISS)


def test_the_next_call_at_another_process_is_a_hit(start, run, ask):
    one, other = start(), start()
    asked = ask()

    async def work():
        await one.ask(ask())
        return await other.ask(asked)

    ends = run(work(), one, other)

    assert (texts(ends), asked.trace.cache, other.model.asked_at) == (["text"], HIT, [])
