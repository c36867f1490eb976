"""How long an image may wait for a decoder."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Overloaded
from gateway.imaging.line import Line

A_BURST_S = 1.1


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def crowd():
    """Has so many come, of whom none leaves by itself."""
    begun = []

    async def come(line, count, *, timeout_s=60.0):
        coming = [asyncio.create_task(line.take(timeout_s)) for _ in range(count)]
        begun.extend(coming)
        await settle()
        return coming

    yield come
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


@pytest.fixture
def line(clock):
    made = Line(places=2, max_waiting=64, clock=clock)
    made.took(0.2)
    return made


def refused(tasks):
    return [task.done() and isinstance(task.exception(), Overloaded) for task in tasks].count(True)


async def test_a_burst_waits_for_as_long_as_it_has(line, crowd):
    assert refused(await crowd(line, 2 + 64)) == 0


async def test_a_line_that_stands_is_kept_short(line, crowd, clock):
    await crowd(line, 2 + 4)
    clock.now += A_BURST_S

    with pytest.raises(Overloaded, match="too many images wait") as caught:
        await line.take(60.0)

    # The five of which it would have been the last one, two at a time.
    assert caught.value.retry_after_s == pytest.approx(0.5)


async def test_a_line_that_stands_and_is_short_takes_one_more(line, crowd, clock):
    await crowd(line, 2 + 3)
    clock.now += A_BURST_S

    assert refused(await crowd(line, 2)) == 1


@pytest.mark.parametrize(("empty_s", "let_in"), [(0.0, 4), (A_BURST_S, 20)], ids=["for a moment", "for a while"])
async def test_a_line_stands_until_it_was_empty_for_a_while(line, crowd, clock, empty_s, let_in):
    (_, _, waiter) = await crowd(line, 3)
    clock.now += A_BURST_S
    line.leave()
    await settle()
    assert waiter.done()
    clock.now += empty_s

    assert refused(await crowd(line, 20)) == 20 - let_in


async def test_a_line_that_stands_is_no_shorter_than_nobody_minds(crowd, clock):
    line = Line(places=2, max_waiting=64, clock=clock)
    line.took(0.02)
    await crowd(line, 2 + 4)
    clock.now += A_BURST_S

    # 0.02 s for every two of 25 is a quarter of a second.
    assert refused(await crowd(line, 40)) == 40 - (25 - 4)


async def test_one_that_gave_up_stands_in_line_no_more(line, crowd, clock):
    waiting = (await crowd(line, 2 + 4))[2:]
    clock.now += A_BURST_S
    waiting[0].cancel()
    await settle()

    assert refused(await crowd(line, 2)) == 1
