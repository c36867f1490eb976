from __future__ import annotations

import asyncio

import pytest

from gateway.singleflight import SingleFlight


class Work:
    """Work that ends when the test says so."""

    def __init__(self):
        self.begun = self.cancelled = 0
        self.latest = []
        self.end = asyncio.get_running_loop().create_future()

    async def __call__(self, is_latest):
        self.begun += 1
        try:
            return await self.end
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.latest.append(is_latest())


@pytest.fixture
async def work():
    return Work()


@pytest.fixture
def waiting():
    """Joins flights, each caller in a task of its own."""
    flights = SingleFlight()

    async def join(work, key, anew):
        awaited, leads = flights.join(key, work, anew=anew)
        return await awaited, leads

    def make(work, key="k", *, anew=False):
        return asyncio.create_task(join(work, key, anew))

    return make


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_equal_work_is_done_once_and_the_first_one_is_told(waiting, work):
    callers = [waiting(work) for _ in range(3)]
    await turns()
    work.end.set_result("done")

    assert await asyncio.gather(*callers) == [("done", True), ("done", False), ("done", False)]
    assert (work.begun, work.latest) == (1, [True])


async def test_other_keys_are_other_work(waiting, work):
    callers = [waiting(work, key) for key in "ab"]
    await turns()
    work.end.set_result("done")

    assert [leads for _, leads in await asyncio.gather(*callers)] == [True, True]


async def test_what_is_over_is_not_joined(waiting, work):
    work.end.set_result("done")

    assert [await waiting(work) for _ in range(2)] == [("done", True)] * 2


async def test_work_goes_on_while_anybody_waits_and_is_over_when_the_last_one_has_gone(waiting, work):
    callers = [waiting(work) for _ in range(3)]
    await turns()
    seen = []
    for caller in callers:
        caller.cancel()
        await asyncio.wait({caller})
        seen.append(work.cancelled)

    assert seen == [0, 0, 1]


async def test_work_begun_anew_is_what_newcomers_join(waiting):
    old, new = Work(), Work()
    first, second = waiting(old), waiting(new, anew=True)
    await turns()
    third = waiting(old)
    await turns()
    new.end.set_result("new")
    await turns()
    old.end.set_result("old")

    assert await asyncio.gather(first, second, third) == [("old", True), ("new", True), ("new", False)]
    assert (old.latest, new.latest) == ([False], [True])


async def test_a_failure_is_raised_to_everybody(waiting, work):
    callers = [waiting(work) for _ in range(2)]
    await turns()
    work.end.set_exception(LookupError("none"))

    ends = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(end) for end in ends] == [LookupError] * 2
