"""Calls and cancels by chance, at processes that share a file of answers, in virtual time."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from random import Random

import pytest

from gateway.cache.behind import WriteBehind
from gateway.cache.sqlite import SqliteStore
from gateway.domain import Answer, Attempt, Completion, ImagePlan, Outcome
from gateway.errors import BackendUnavailable, GatewayError, Overloaded, Refused
from gateway.usage import Usage


class Busy:
    """Stands in for a model that takes up to three seconds, and fails now and then; tells who asks it at once."""

    def __init__(self, random):
        self._random = random
        self.asked = 0
        self.now = set()
        self.asked_twice = []

    async def answer(self, ask):
        told = ask.images[0].data.decode()
        if told in self.now:
            self.asked_twice.append(told)
        self.now.add(told)
        # Each costs another power of two, so that any sum tells which were added.
        cost, outcome = 1 << self.asked, Outcome.FAILED
        self.asked += 1
        try:
            await asyncio.sleep(self._random.uniform(0, 3))
            if self._random.random() < 0.3:
                raise self._random.choice([BackendUnavailable, Overloaded, Refused])("m")
            outcome = Outcome.OK
        finally:
            self.now.discard(told)
            ask.trace.attempts.append(Attempt("m", outcome, cost_nano_usd=cost))
        return Answer(object(), Completion(told, Usage()), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


@pytest.fixture
def clock(virtual_clock):
    return virtual_clock


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_one_at_a_time_asks_and_no_claim_is_left(seed, cached, clock, ask, tmp_path, virtual_time):
    random = Random(seed)  # noqa: S311  a test that can be made again keeps nothing secret
    model = Busy(random)
    path = tmp_path / "cache.db"
    files = [SqliteStore(path, ttl_s=5, max_bytes=1 << 20, now=clock) for _ in range(3)]
    stores = [WriteBehind(file, clock=clock, patience_s=1.0) for file in files]
    processes = [cached(model, store=store) for store in stores]
    asks, calls = [], []

    async def work():
        for _ in range(200):
            asked = ask(seconds=60.0)
            asks.append(replace(asked, images=(replace(asked.images[0], data=random.choice("abcd").encode()),)))
            calls.append(asyncio.create_task(random.choice(processes).answer(asks[-1])))
            if random.random() < 0.3:
                random.choice(calls).cancel()
            await asyncio.sleep(random.choice([0, 0, 0.01, 0.3]))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        for store in stores:
            await store.aclose()
        return ends, asyncio.all_tasks() - {asyncio.current_task()}

    ends, left = virtual_time.run(work())

    wrong = [end for end in ends if not isinstance(end, (Answer, GatewayError, asyncio.CancelledError))]
    answered = [(end, each) for end, each in zip(ends, asks, strict=True) if isinstance(end, Answer)]
    billed = [attempt.cost_nano_usd for each in asks for attempt in each.trace.attempts if attempt.cost_nano_usd]
    with closing(sqlite3.connect(path)) as connection:
        claims = connection.execute("SELECT count(*) FROM claims").fetchone()[0]
    assert wrong == []
    assert [end for end, each in answered if end.completion.text != each.images[0].data.decode()] == []
    assert len(set(billed)) == len(billed) <= model.asked < 200
    assert (model.asked_twice, claims, left) == ([], 0, set())
