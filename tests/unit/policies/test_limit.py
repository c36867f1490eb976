from __future__ import annotations

import asyncio

import pytest

from gateway.concurrency import Fixed
from gateway.domain import Outcome
from gateway.errors import Overloaded
from gateway.policies.limit import Limit


class HeldModel:
    """Answers when told."""

    def __init__(self, inner):
        self.inner = inner
        self.go = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def answer(self, ask):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.go.wait()
            return await self.inner.answer(ask)
        finally:
            self.inside -= 1

    async def ready(self):
        return True


@pytest.fixture
def limited(model, latency, metrics, clock, random):
    def make(max_inflight, max_queue, *steps, concurrency=None, **more):
        held = HeldModel(model("m", *steps))
        limit = Limit(
            held,
            name="m",
            concurrency=concurrency or Fixed(max_inflight),
            max_queue=max_queue,
            latency=latency,
            metrics=metrics,
            clock=clock,
            random=random,
            **more,
        )
        return held, limit

    return make


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_calls_than_allowed_are_asked_at_once_and_all_are_answered(limited, ask):
    held, limit = limited(2, 10)
    calls = [asyncio.create_task(limit.answer(ask())) for _ in range(6)]
    await settle()
    held.go.set()

    assert [answer.model for answer in await asyncio.gather(*calls)] == ["m"] * 6
    assert held.most == 2


async def test_beyond_the_queue_calls_are_shed_at_once_and_said_so(limited, ask, sample):
    held, limit = limited(1, 1)
    calls = [asyncio.create_task(limit.answer(ask())) for _ in range(2)]
    await settle()
    shed = ask()

    with pytest.raises(Overloaded, match="its queue is full") as caught:
        await limit.answer(shed)

    assert caught.value.retry_after_s == 1.0
    assert [(attempt.outcome, attempt.reason) for attempt in shed.trace.attempts] == [(Outcome.SKIPPED, "OVERLOADED")]
    skipped = {"outcome": "skipped", "reason": "OVERLOADED"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="m", **skipped) == 1
    held.go.set()
    await asyncio.gather(*calls)


async def test_a_call_that_waits_past_its_deadline_is_shed(limited, ask):
    held, limit = limited(1, 1)
    first = asyncio.create_task(limit.answer(ask()))
    await settle()

    with pytest.raises(Overloaded, match="busy until the time was up"):
        await limit.answer(ask(seconds=0.0))
    held.go.set()
    await first


async def test_a_cancelled_waiter_leaves_no_place_taken(limited, ask):
    held, limit = limited(1, 1)
    first, second = (asyncio.create_task(limit.answer(ask())) for _ in range(2))
    await settle()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    third = asyncio.create_task(limit.answer(ask()))
    held.go.set()

    assert (await first).model == (await third).model == "m"


async def test_the_time_in_the_queue_is_on_the_call_s_record(limited, clock, ask):
    held, limit = limited(1, 1)
    first, waiter = ask(), ask()
    calls = [asyncio.create_task(limit.answer(asked)) for asked in (first, waiter)]
    await settle()
    clock.now += 3.0
    held.go.set()
    await asyncio.gather(*calls)

    assert (first.trace.queue_s, waiter.trace.queue_s) == (0.0, 3.0)
