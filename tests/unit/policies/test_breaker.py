from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain import Attempt, Outcome
from gateway.errors import (
    BackendUnavailable,
    CostAboveLimit,
    DeadlineExceeded,
    DeadlineTooShort,
    GatewayError,
    InvalidImage,
    Overloaded,
    Refused,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAccount,
    UpstreamAuth,
    UpstreamRateLimited,
)
from gateway.policies.breaker import Breaker, State
from gateway.usage import Usage

ANSWER = Usage(output=1)
DOWN = BackendUnavailable("down")


@pytest.fixture
def breaker(latency, metrics, clock):
    def make(inner, **rule):
        rule = {"failures": 5, "share": 0.5, "open_s": 1.0, "longest_open_s": 30.0, **rule}
        return Breaker(inner, name="m", **rule, latency=latency, metrics=metrics, clock=clock)

    return make


@pytest.fixture
def call(ask):
    """Asks once and gives the failure, None for an answer."""

    async def make(breaker, *, last_resort=False, asked=None):
        try:
            await breaker.answer(replace(asked or ask(), last_resort=last_resort))
        except GatewayError as exc:
            return exc
        return None

    return make


@pytest.fixture
def state(sample):
    return lambda: State(sample("vision_gateway_breaker_state", model="m"))


@pytest.mark.parametrize(
    "failure",
    [DOWN, UpstreamRateLimited("slow down"), UpstreamAuth("key refused"), UpstreamAccount("no credit")],
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


@pytest.mark.parametrize("told", [Refused("no"), UnusableAnswer("prose")], ids=lambda told: told.reason)
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
