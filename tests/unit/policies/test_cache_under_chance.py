from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from gateway.cache.behind import WriteBehind
from gateway.domain import Answer, Attempt, CachePolicy, Completion, ImagePlan, Outcome
from gateway.errors import BackendUnavailable, DeadlineExceeded, GatewayError, Overloaded, Refused
from gateway.latency import Latency
from gateway.policies.cache import Cache
from gateway.usage import Usage
from tests.fixtures.cached_model import CODEC, turns


class Busy:
    """Stands in for a model whose calls take a few turns of the loop, and fail now and then."""

    def __init__(self, random):
        self._random = random
        self.made = []

    async def answer(self, ask):
        told = ask.images[0].data.decode()
        # Each costs another power of two, so that any sum tells which were added.
        cost = 1 << len(self.made)
        self.made.append(ask)
        outcome = Outcome.FAILED
        try:
            for _ in range(self._random.randrange(8)):
                await asyncio.sleep(0)
            if self._random.random() < 0.2:
                raise self._random.choice([BackendUnavailable, Overloaded, Refused, DeadlineExceeded])("m")
            outcome = Outcome.OK
        finally:
            ask.trace.attempts.append(Attempt("m", outcome, cost_nano_usd=cost))
        return Answer(object(), Completion(told, Usage()), "m", "fake", "1", ImagePlan(1, 1, 0), 0)

    async def ready(self):
        return True


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_each_call_ends_once_with_its_own_answer_and_no_bill_is_split(
    seed, memory_store, metrics, clock, ask
):
    async def digest(image):
        await asyncio.sleep(0)
        return image.data

    random = Random(seed)  # noqa: S311  a test that can be made again keeps nothing secret
    model = Busy(random)
    store = WriteBehind(memory_store, clock=clock, patience_s=1.0)
    cache = Cache(
        model,
        name="m",
        store=store,
        digest=digest,
        key=lambda _, pictures: b"".join(pictures),
        codec=CODEC,
        fit=lambda asked, _: asked,
        latency=Latency(),
        metrics=metrics,
        clock=clock,
    )
    asks, calls = [], []
    for _ in range(200):
        told = random.choice("abc") + str(len(calls) // 40)
        policy = random.choice([CachePolicy.DEFAULT] * 8 + [CachePolicy.REFRESH, CachePolicy.BYPASS])
        asked = ask(cache=policy)
        asks.append(replace(asked, images=(replace(asked.images[0], data=told.encode()),)))
        calls.append(asyncio.create_task(cache.answer(asks[-1])))
        if random.random() < 0.3:
            random.choice(calls).cancel()
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    await store.aclose()
    await turns()

    wrong = [end for end in ends if not isinstance(end, (Answer, GatewayError, asyncio.CancelledError))]
    texts = [
        (end.completion.text, each.images[0].data.decode())
        for end, each in zip(ends, asks, strict=True)
        if isinstance(end, Answer)
    ]
    billed = [attempt.cost_nano_usd for each in asks for attempt in each.trace.attempts if attempt.cost_nano_usd]
    assert wrong == []
    assert [told for told, own in texts if told != own] == []
    # Those whose caller went while others waited are on no caller's record any more.
    assert len(set(billed)) == len(billed) <= len(model.made) < 200
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert cache._flights._flights == {}
