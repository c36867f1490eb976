"""Who waits for a place, in which order, and who is told at once that waiting would be in vain."""

from __future__ import annotations

import asyncio

import pytest

from gateway.concurrency import Fixed
from gateway.domain import Urgency
from gateway.errors import DeadlineExceeded, Overloaded, UpstreamRateLimited
from tests.fixtures.queues import settle

BULK = {"urgency": Urgency.BULK}


class Noted(Fixed):
    """A fixed limit that remembers what it is told."""

    def __init__(self, limit):
        super().__init__(limit)
        self.told = []

    def took(self, kind, seconds, inflight):
        self.told.append((kind, seconds, inflight))

    def overloaded(self):
        self.told.append("overloaded")


@pytest.fixture
async def busy(limit, begin, stepped, takes):
    """A limit of one place that is taken, whose model is known to take a second."""

    async def make(**more):
        made = limit(**more)
        takes("m", 1.0)
        await begin(made, "first")
        await stepped.end(after_s=1.0)
        await begin(made, "second")
        stepped.order.clear()
        return made

    return make


async def test_interactive_calls_go_before_bulk_ones_and_each_in_the_order_they_came(busy, begin, stepped):
    limited = await busy()
    for name, options in (("b1", BULK), ("i1", {}), ("b2", BULK), ("i2", {})):
        await begin(limited, name, **options)

    for _ in range(4):
        await stepped.end()

    assert stepped.order == ["i1", "i2", "b1", "b2"]


async def test_in_a_full_queue_an_interactive_call_takes_the_place_of_the_newest_bulk_call(busy, begin, stepped):
    limited = await busy(queue=2)
    await begin(limited, "b1", **BULK)
    newest = await begin(limited, "b2", **BULK)
    await begin(limited, "i1")

    assert (type(newest.exception()), str(newest.exception())) == (
        Overloaded,
        "m is busy, and a call that somebody waits for took the place in its queue",
    )
    await stepped.end()
    await stepped.end()
    assert stepped.order == ["i1", "b1"]


@pytest.mark.parametrize("options", [BULK, {}], ids=["bulk", "interactive"])
async def test_nobody_else_s_place_in_a_full_queue_is_taken(busy, begin, stepped, options):
    limited = await busy(queue=1)
    await begin(limited, "waits", **options)
    shed = await begin(limited, "shed", **BULK)

    assert str(shed.exception()) == "m is busy and its queue is full"
    await stepped.end()
    assert stepped.order == ["waits"]


async def test_a_call_that_the_queue_leaves_no_time_to_be_answered_is_shed_and_told_how_long_that_is(
    busy, begin, sample
):
    limited = await busy()
    await begin(limited, "i1")
    await begin(limited, "i2")

    # Three of a second each before it has a place, half as long again to be sure, and a second for itself.
    late = await begin(limited, "late", seconds=5.4)
    in_time = await begin(limited, "in time", seconds=5.6)

    assert (type(late.exception()), late.exception().retry_after_s, in_time.done()) == (Overloaded, 3.0, False)
    assert str(late.exception()) == "m is busy, and its queue too long for the time that is left"
    assert sample("vision_gateway_model_queue", model="m") == 3


async def test_a_bulk_call_reckons_with_all_who_wait_and_an_interactive_one_with_its_like(busy, begin):
    limited = await busy()
    for name in ("b1", "b2", "b3"):
        await begin(limited, name, **BULK)

    assert not (await begin(limited, "i1", seconds=2.6)).done()
    assert (await begin(limited, "b4", seconds=2.6, **BULK)).done()


async def test_more_places_make_the_wait_shorter(busy, begin):
    limited = await busy(places=2)
    await begin(limited, "third")

    assert not (await begin(limited, "fourth", seconds=1.8)).done()


async def test_a_call_whose_time_passes_in_the_queue_is_dropped_and_its_turn_goes_to_the_next(busy, begin, stepped):
    limited = await busy()
    late = await begin(limited, "late", seconds=2.6)
    await begin(limited, "next", seconds=60)

    # Too little is left for a model that takes a second.
    await stepped.end(after_s=1.7)

    assert (type(late.exception()), stepped.order) == (Overloaded, ["next"])


async def test_a_turn_that_comes_as_its_call_is_taken_back_goes_to_the_next(busy, begin, stepped):
    limited = await busy()
    taken_back = await begin(limited, "taken back")
    await begin(limited, "next")
    stepped.running.pop(0).set_result("answer")
    await asyncio.sleep(0)
    taken_back.cancel()
    await settle()

    assert (taken_back.cancelled(), stepped.order) == (True, ["next"])


async def test_those_who_waited_do_not_ask_a_model_that_was_paused_meanwhile(busy, begin, stepped):
    paused = False
    limited = await busy(is_paused=lambda: paused)
    waiting = [await begin(limited, name) for name in ("i1", "i2")]
    last_resort = await begin(limited, "last resort", last_resort=True)
    paused = True
    await stepped.end()

    assert [str(each.exception()) for each in waiting] == ["m failed too often while the call waited for it"] * 2
    assert (last_resort.done(), stepped.order) == (False, ["last resort"])


async def test_answers_tell_how_many_calls_are_to_be_asked_at_once(limit, begin, stepped):
    noted = Noted(2)
    limited = limit(concurrency=noted)
    await begin(limited, "first")
    await begin(limited, "second")
    await stepped.end(after_s=1.0)
    await stepped.end(after_s=2.0)

    assert noted.told == [("Caption", 1.0, 1), ("Caption", 3.0, 2)]


async def test_so_does_a_deadline_that_left_time_enough_and_a_rate_limit(limit, begin, stepped, takes):
    noted = Noted(1)
    limited = limit(concurrency=noted)
    takes("m", 2.0)
    for after_s, exc in ((1.0, DeadlineExceeded("")), (3.0, DeadlineExceeded("")), (1.0, UpstreamRateLimited(""))):
        await begin(limited, "call")
        await stepped.end(after_s=after_s, exc=exc)

    assert noted.told == [("Caption", 3.0, 1), "overloaded"]


async def test_a_call_taken_back_tells_nothing(limit, begin, clock):
    noted = Noted(1)
    call = await begin(limit(concurrency=noted), "call")
    clock.now += 5.0
    call.cancel()
    await settle()

    assert noted.told == []


async def test_a_limit_that_grows_lets_more_calls_in_and_one_that_shrinks_fewer(limit, begin, stepped, sample):
    changing = Noted(1)
    limited = limit(concurrency=changing)
    for name in "abcdef":
        await begin(limited, name)
    changing.limit = 3
    await stepped.end()
    grown = (stepped.order[:], sample("vision_gateway_model_limit", model="m"))
    changing.limit = 1
    await stepped.end()
    await stepped.end()

    assert (grown, stepped.order) == ((["a", "b", "c", "d"], 3), ["a", "b", "c", "d"])
    await stepped.end()
    assert stepped.order == ["a", "b", "c", "d", "e"]
