from __future__ import annotations

import asyncio

import pytest

from gateway.domain import Attempt, Outcome
from gateway.errors import (
    BackendUnavailable,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
    UpstreamRateLimited,
)
from gateway.policies.breaker import State
from gateway.usage import Usage

ANSWER = Usage(output=1)
DOWN = BackendUnavailable("down")


async def test_while_open_a_call_is_turned_away_at_once_and_told_when_to_come_back(
    breaker, model, call, ask, clock, sample
):
    inner = model("m", *[DOWN] * 5)
    guarded = breaker(inner)
    for _ in range(5):
        await call(guarded)
    clock.now += 0.25
    asked = ask()

    failure = await call(guarded, asked=asked)

    assert (type(failure), failure.retry_after_s, failure.elsewhere) == (BackendUnavailable, 0.75, True)
    assert len(inner.asked) == 5
    assert asked.trace.attempts == [Attempt("m", Outcome.SKIPPED, "BACKEND_UNAVAILABLE")]
    skipped = {"outcome": "skipped", "reason": "BACKEND_UNAVAILABLE"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="m", **skipped) == 1


async def test_a_rate_limit_opens_it_at_once_for_as_long_as_the_provider_says(breaker, model, call, clock):
    guarded = breaker(model("m", UpstreamRateLimited("slow down", retry_after_s=7.0)))

    await call(guarded)

    assert (await call(guarded)).retry_after_s == 7.0
    clock.now += 7.0
    assert await call(guarded) is None


async def test_the_pause_doubles_up_to_the_longest_each_time_a_try_fails(breaker, model, call, clock):
    guarded = breaker(model("m", *[DOWN] * 20))
    for _ in range(5):
        await call(guarded)
    pauses = []

    for _ in range(7):
        pauses.append((await call(guarded)).retry_after_s)
        clock.now += pauses[-1]
        await call(guarded)

    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])


async def test_one_call_tries_while_it_is_half_open_and_its_answer_closes_it(breaker, model, call, clock, state):
    inner = model("m", *[DOWN] * 5)
    guarded = breaker(inner)
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0
    answer_of, may_answer = inner.answer, asyncio.Event()

    async def slowly(asked):
        await may_answer.wait()
        return await answer_of(asked)

    inner.answer = slowly
    probe = asyncio.create_task(call(guarded))
    await asyncio.sleep(0)
    other = await call(guarded)
    while_probing = state()
    may_answer.set()

    assert (await probe, type(other), while_probing, state()) == (
        None,
        BackendUnavailable,
        State.HALF_OPEN,
        State.CLOSED,
    )


async def test_a_try_that_its_caller_takes_back_leaves_the_place_to_the_next(breaker, model, call, clock):
    guarded = breaker(model("m", *[DOWN] * 5, asyncio.CancelledError()))
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0

    with pytest.raises(asyncio.CancelledError):
        await call(guarded)

    assert await call(guarded) is None


async def test_a_model_that_fails_again_right_after_it_was_closed_is_paused_longer(breaker, model, call, clock):
    guarded = breaker(model("m", *[DOWN] * 5, ANSWER, *[DOWN] * 5))
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0

    for _ in range(6):
        await call(guarded)

    assert (await call(guarded)).retry_after_s == 2.0


async def test_a_model_that_went_well_for_long_is_paused_shortly_again(breaker, model, call, clock):
    guarded = breaker(model("m", *[DOWN] * 5, ANSWER, *[DOWN] * 5))
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0
    await call(guarded)
    clock.now += 31.0

    for _ in range(5):
        await call(guarded)

    assert (await call(guarded)).retry_after_s == 1.0


async def test_a_model_seen_ready_again_gets_the_next_call_before_the_pause_is_over(breaker, model, call, state):
    inner = model("m", *[DOWN] * 5, is_ready=False)
    guarded = breaker(inner, open_s=30.0)
    for _ in range(5):
        await call(guarded)
    assert not await guarded.ready()
    states = [state()]

    inner.is_ready = True
    assert await guarded.ready()
    states.append(state())

    assert await call(guarded) is None
    assert [*states, state()] == [State.OPEN, State.HALF_OPEN, State.CLOSED]


async def test_a_model_that_says_it_is_ready_all_along_is_paused_all_the_same(breaker, model, call, state):
    guarded = breaker(model("m", *[DOWN] * 5))
    await guarded.ready()
    for _ in range(5):
        await call(guarded)

    await guarded.ready()

    assert state() is State.OPEN


async def test_a_look_shows_that_the_pause_is_over(breaker, model, call, state, clock):
    guarded = breaker(model("m", *[DOWN] * 5))
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0

    await guarded.ready()

    assert state() is State.HALF_OPEN


async def test_a_last_resort_is_asked_though_it_is_open_and_its_answer_closes_it(breaker, model, call, state):
    guarded = breaker(model("m", *[DOWN] * 6))
    for _ in range(5):
        await call(guarded)

    failed = await call(guarded, last_resort=True)
    after_failure = state()
    answered = await call(guarded, last_resort=True)

    assert (str(failed), after_failure, answered, state()) == ("down", State.OPEN, None, State.CLOSED)


async def test_a_last_resort_is_asked_by_one_call_at_a_time(breaker, model, call):
    inner = model("m", *[DOWN] * 5)
    guarded = breaker(inner)
    for _ in range(5):
        await call(guarded)
    answer_of, may_answer = inner.answer, asyncio.Event()

    async def slowly(asked):
        await may_answer.wait()
        return await answer_of(asked)

    inner.answer = slowly
    first, second = (asyncio.create_task(call(guarded, last_resort=True)) for _ in range(2))
    await asyncio.sleep(0)
    may_answer.set()

    assert (await first, type(await second)) == (None, BackendUnavailable)


async def test_a_call_of_before_the_pause_that_fails_after_it_tells_nothing_new(breaker, model, call, state, clock):
    inner = model("m", *[DOWN] * 6)
    guarded = breaker(inner)
    answer_of, may_answer = inner.answer, asyncio.Event()

    async def slowly(asked):
        await may_answer.wait()
        return await answer_of(asked)

    inner.answer = slowly
    early = asyncio.create_task(call(guarded))
    await asyncio.sleep(0)
    inner.answer = answer_of
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0
    await guarded.ready()
    may_answer.set()

    assert (await early, state()) == (DOWN, State.HALF_OPEN)


@pytest.mark.parametrize(
    "told", [Refused("no"), UnusableAnswer("prose"), TruncatedAnswer("too long")], ids=lambda told: told.reason
)
async def test_a_model_that_talks_though_not_usably_is_well_again(breaker, model, call, state, clock, told):
    guarded = breaker(model("m", *[DOWN] * 5, told))
    for _ in range(5):
        await call(guarded)
    clock.now += 1.0

    await call(guarded)

    assert state() is State.CLOSED


async def test_a_provider_that_asks_for_more_than_five_minutes_is_tried_after_five(breaker, model, call):
    guarded = breaker(model("m", UpstreamRateLimited("slow down", retry_after_s=86_400.0)))

    await call(guarded)

    assert (await call(guarded)).retry_after_s == 300.0
