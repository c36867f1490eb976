from __future__ import annotations

import asyncio

import pytest

from gateway.errors import (
    BackendUnavailable,
    BrokenOff,
    CostAboveLimit,
    DeadlineExceeded,
    DeadlineTooShort,
    InvalidImage,
    Overloaded,
    Refused,
    TruncatedAnswer,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.policies.breaker import State
from gateway.usage import Usage

ANSWER = Usage(output=1)
DOWN = BackendUnavailable("down")


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        BrokenOff("broke off", elsewhere=False),
        UpstreamRateLimited("slow down"),
        UpstreamAuth("key refused"),
        UpstreamAccount("no credit"),
    ],
    ids=lambda failure: failure.reason,
)
async def test_five_failures_in_a_row_open_it(breaker, model, call, state, failure):
    guarded = breaker(model("m", *[failure] * 5))
    states = [state()]

    for _ in range(5):
        await call(guarded)
        states.append(state())

    assert states == [State.CLOSED] * 5 + [State.OPEN]
    assert guarded.is_open


@pytest.mark.parametrize(
    "failure",
    [
        InvalidImage("bad", limit="decode"),
        UnsupportedByModel("no"),
        CostAboveLimit("dear"),
        Overloaded("busy"),
        Refused("no"),
        UnusableAnswer("prose"),
        TruncatedAnswer("too long"),
        DeadlineExceeded("late"),
        DeadlineTooShort("too few"),
    ],
    ids=lambda failure: failure.reason,
)
async def test_what_is_not_the_model_s_failing_never_opens_it(breaker, model, call, state, failure):
    guarded = breaker(model("m", *[failure] * 100))

    for _ in range(100):
        await call(guarded)

    assert state() is State.CLOSED


async def test_a_stream_that_broke_while_its_reader_held_it_up_never_opens_it(breaker, model, call, state):
    inner = model("m", *[BrokenOff("broke off")] * 10)
    answer_of = inner.answer

    async def held_up(asked):
        asked.trace.reader_s += 1.0
        return await answer_of(asked)

    inner.answer = held_up
    guarded = breaker(inner)
    for _ in range(10):
        await call(guarded)

    assert state() is State.CLOSED


async def test_callers_that_hang_up_never_open_it(breaker, model, call, state):
    guarded = breaker(model("m", *[asyncio.CancelledError()] * 10))

    for _ in range(10):
        with pytest.raises(asyncio.CancelledError):
            await call(guarded)

    assert state() is State.CLOSED


async def test_a_caller_s_own_mistake_between_failures_does_not_hide_them(breaker, model, call, state):
    guarded = breaker(model("m", *[DOWN, InvalidImage("bad", limit="decode")] * 4, DOWN))

    for _ in range(9):
        await call(guarded)

    assert state() is State.OPEN


async def test_an_answer_between_failures_starts_the_count_anew(breaker, model, call, state):
    guarded = breaker(model("m", *[DOWN] * 4, ANSWER, *[DOWN] * 4))

    for _ in range(9):
        await call(guarded)

    assert state() is State.CLOSED


async def test_half_of_twenty_calls_within_ten_seconds_open_it(breaker, model, call, state):
    guarded = breaker(model("m", *[ANSWER, DOWN] * 10))

    for _ in range(19):
        await call(guarded)
    before = state()
    await call(guarded)

    assert (before, state()) == (State.CLOSED, State.OPEN)


async def test_failures_of_more_than_ten_seconds_ago_do_not_count(breaker, model, call, state, clock):
    guarded = breaker(model("m", *[ANSWER, DOWN] * 10))

    for _ in range(19):
        await call(guarded)
    clock.now += 10.0
    await call(guarded)

    assert state() is State.CLOSED


async def test_a_deadline_counts_where_the_model_took_far_longer_than_it_ever_does(breaker, model, call, state, takes):
    takes("m", 1.0)
    guarded = breaker(model("m", *[DeadlineExceeded("late")] * 5, takes_s=2.1))

    for _ in range(5):
        await call(guarded)

    assert state() is State.OPEN


async def test_a_deadline_too_tight_for_a_model_of_known_speed_does_not_count(breaker, model, call, state, takes):
    takes("m", 1.0)
    guarded = breaker(model("m", *[DeadlineExceeded("late")] * 5, takes_s=1.9))

    for _ in range(5):
        await call(guarded)

    assert state() is State.CLOSED


async def test_a_deadline_counts_where_the_model_was_last_seen_not_ready(breaker, model, call, state):
    guarded = breaker(model("m", *[DeadlineExceeded("late")] * 5, is_ready=False))
    await guarded.ready()

    for _ in range(5):
        await call(guarded)

    assert state() is State.OPEN


async def test_failures_among_fewer_than_twenty_calls_are_no_share(breaker, model, call, state):
    guarded = breaker(model("m", *[DOWN, ANSWER] * 9, DOWN, DOWN))

    for _ in range(19):
        await call(guarded)
    before = state()
    await call(guarded)

    assert (before, state()) == (State.CLOSED, State.OPEN)


async def test_the_time_that_other_models_took_of_a_call_is_not_held_against_this_one(
    breaker, model, call, ask, state, takes
):
    takes("m", 1.0)
    guarded = breaker(model("m", *[DeadlineExceeded("late")] * 5, takes_s=1.0))

    for _ in range(5):
        asked = ask()
        asked.trace.upstream_s = 60.0
        await call(guarded, asked=asked)

    assert state() is State.CLOSED
