"""A queue that has stood for so long that it is no burst."""

from __future__ import annotations

import pytest

from gateway.domain import Urgency
from gateway.errors import Overloaded


@pytest.fixture
async def standing(limit, begin, stepped, clock):
    """A limit of four places in whose queue some have waited for longer than a burst takes."""

    async def make(*waiting, takes_s=1.0):
        made = limit(4)
        await begin(made, "one that tells how long a place is held")
        await stepped.end(after_s=takes_s)
        for place in range(4):
            await begin(made, f"asked {place}")
        for number, options in enumerate(waiting):
            await begin(made, f"waiter {number}", **options)
        clock.now += 1.1
        return made

    return make


async def test_a_queue_that_stands_holds_half_as_many_as_are_asked_at_once(standing, begin):
    limit = await standing({}, {})

    with pytest.raises(Overloaded, match="while more calls come than it answers"):
        await (await begin(limit, "late"))


async def test_one_more_waits_in_a_queue_that_stands_and_is_shorter(standing, begin):
    limit = await standing({})

    late = await begin(limit, "late")

    assert not late.done()


@pytest.mark.parametrize(("empty_s", "let_in"), [(0.0, 2), (1.1, 6)], ids=["for a moment", "for a while"])
async def test_a_queue_is_kept_short_until_it_was_empty_for_a_while(standing, begin, stepped, clock, empty_s, let_in):
    limit = await standing({})
    await stepped.end(after_s=0.0)
    clock.now += empty_s

    late = [await begin(limit, f"late {number}") for number in range(6)]

    assert [task.done() for task in late].count(False) == let_in


async def test_a_queue_that_stands_is_no_shorter_than_nobody_minds(standing, begin):
    limit = await standing({}, {}, takes_s=0.125)

    late = [await begin(limit, f"late {number}") for number in range(10)]

    # 0.125 s for every four of eight is a quarter of a second.
    assert [task.done() for task in late].count(False) == 8 - 2


async def test_bulk_calls_may_fill_a_queue_that_stands(standing, begin):
    limit = await standing({}, {})

    assert not (await begin(limit, "bulk", urgency=Urgency.BULK)).done()


async def test_bulk_calls_that_wait_keep_no_interactive_one_from_waiting(standing, begin):
    limit = await standing(*[{"urgency": Urgency.BULK}] * 4)

    assert not (await begin(limit, "somebody waits")).done()
