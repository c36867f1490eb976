"""Models that were not ready when they were last looked at stand back for those that may answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from gateway.domain import Attempt, Outcome
from gateway.errors import BackendUnavailable, CostAboveLimit, DeadlineExceeded, UnusableAnswer
from gateway.policies.breaker import Breaker
from gateway.policies.fallback import Fallback
from gateway.policies.hedge import Hedge

DOWN = BackendUnavailable("down")
PASSED = Attempt("a", Outcome.SKIPPED, "BACKEND_UNAVAILABLE")


@pytest.fixture
def in_turn(latency, metrics, clock):
    return partial(Fallback, latency=latency, metrics=metrics, clock=clock)


@pytest.fixture
def seen_down(candidate, latency, metrics, clock):
    """Makes a candidate behind a breaker that saw it not ready, and gives its model too."""

    async def make(name, *steps, **facts):
        made = candidate(name, *steps, is_ready=False, **facts)
        rule = {"failures": 5, "share": 0.5, "open_s": 1.0, "longest_open_s": 30.0}
        breaker = Breaker(made.model, name=name, **rule, latency=latency, metrics=metrics, clock=clock)
        await breaker.ready()
        seen = {"is_open": lambda: breaker.is_open, "is_ready": lambda: breaker.seen_ready}
        return replace(made, model=breaker, **seen), made.model

    return make


async def test_it_passes_where_another_one_may_answer(in_turn, candidate, seen_down, ask, sample):
    first, down = await seen_down("a")
    asked = ask()

    answer = await in_turn([first, candidate("b"), candidate("c")]).answer(asked)

    assert (answer.model, down.asked) == ("b", [])
    assert asked.trace.attempts == [PASSED]
    assert sample("vision_gateway_fallbacks_total", rpc="Caption", reason="BACKEND_UNAVAILABLE") == 1
    skipped = {"outcome": "skipped", "reason": "BACKEND_UNAVAILABLE"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="a", **skipped) == 1


@pytest.mark.parametrize("failure", [DOWN, UnusableAnswer("prose")], ids=lambda failure: failure.reason)
async def test_it_is_the_last_resort_when_the_others_fail(in_turn, candidate, seen_down, ask, failure):
    first, down = await seen_down("a")
    asked = ask()

    answer = await in_turn([first, candidate("b", failure)]).answer(asked)

    assert answer.model == "a"
    assert [(each.deadline, each.has_next) for each in down.asked] == [(asked.deadline, False)]


async def test_it_is_asked_in_the_end_once(in_turn, candidate, seen_down, ask):
    first, down = await seen_down("a", DOWN)

    with pytest.raises(BackendUnavailable) as caught:
        await in_turn([first, candidate("b", UnusableAnswer("prose"))]).answer(ask())

    assert str(caught.value) == "a was not ready when it was last looked at"
    assert len(down.asked) == 1


async def test_those_that_pass_are_asked_in_the_end_in_their_order(in_turn, candidate, seen_down, ask):
    (first, _), (second, _) = await seen_down("a", DOWN), await seen_down("b")

    assert (await in_turn([first, second, candidate("c", DOWN)]).answer(ask())).model == "b"


@pytest.mark.parametrize("other", ["not ready", "paused", "too slow"])
async def test_it_is_asked_in_its_turn_where_no_later_one_may_answer(in_turn, candidate, seen_down, ask, takes, other):
    first, _ = await seen_down("a")
    later = {"not ready": (await seen_down("b"))[0], "paused": candidate("b", is_open=True)}
    takes("b", 11.0 if other == "too slow" else 1.0)
    asked = ask(seconds=10.0)

    answer = await in_turn([first, later.get(other, candidate("b"))]).answer(asked)

    assert (answer.model, asked.trace.attempts) == ("a", [])


async def test_after_one_that_may_answer_it_is_asked_in_its_turn(in_turn, candidate, seen_down, ask):
    last, _ = await seen_down("b")
    first = candidate("a", DOWN)

    assert (await in_turn([first, last]).answer(ask())).model == "b"
    assert not first.model.asked[0].has_next


async def test_it_is_left_no_time_by_those_that_may_answer(in_turn, candidate, seen_down, ask, takes):
    takes("a", 4.0)
    first, down = await seen_down("a")
    second = candidate("b", DeadlineExceeded("late"), takes_s=9.999)
    asked = ask(seconds=10.0)

    with pytest.raises(DeadlineExceeded):
        await in_turn([first, second]).answer(asked)

    assert (second.model.asked[0].deadline, down.asked) == (asked.deadline, [])


async def test_one_that_would_not_be_asked_anyhow_is_not_tried_again(in_turn, candidate, seen_down, ask):
    first, _ = await seen_down("a")
    too_dear = candidate("a", CostAboveLimit("dear"))

    with pytest.raises(BackendUnavailable, match="down"):
        await in_turn([replace(first, model=too_dear.model), candidate("b", DOWN)]).answer(ask())

    assert len(too_dear.model.asked) == 1


async def test_it_gets_its_calls_as_soon_as_it_is_seen_ready(in_turn, candidate, seen_down, ask):
    first, down = await seen_down("a")
    down.is_ready = True
    await first.model.ready()

    assert (await in_turn([first, candidate("b")]).answer(ask())).model == "a"


async def test_the_pause_of_one_that_is_down_ends_in_no_call_s_try_while_another_one_may_answer(
    in_turn, candidate, seen_down, ask, clock
):
    first, down = await seen_down("a", *[DOWN] * 9)
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            await in_turn([first]).answer(ask())
    clock.now += 60.0

    answer = await in_turn([first, candidate("b")]).answer(ask())

    assert (answer.model, len(down.asked)) == ("b", 5)


@pytest.fixture
def hedge_of(in_turn, latency, metrics, clock):
    """Makes a race whose second joins at once."""

    def make(*candidates):
        return Hedge(candidates, in_turn=in_turn, after_s=1e-6, latency=latency, metrics=metrics, clock=clock)

    return make


async def settle():
    """Lets what is due happen, timers of a microsecond too."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_race_is_begun_with_it(hedge_of, held, seen_down, ask, sample):
    (first, slow), (second, down) = held("a"), await seen_down("b")
    call = asyncio.create_task(hedge_of(first, second).answer(ask()))
    await slow.asked.wait()
    await settle()
    slow.go.set()

    assert ((await call).model, down.asked) == ("a", [])
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="first") is None


async def test_asked_in_the_end_it_is_not_raced_by_one_that_has_had_its_turn(hedge_of, candidate, seen_down, ask):
    first, down = await seen_down("a")
    second = candidate("b", DOWN)
    answer_of, asked, may_answer = down.answer, asyncio.Event(), asyncio.Event()

    async def slowly(given):
        asked.set()
        await may_answer.wait()
        return await answer_of(given)

    down.answer = slowly
    call = asyncio.create_task(hedge_of(first, second).answer(ask()))
    await asked.wait()
    await settle()
    may_answer.set()

    assert ((await call).model, len(second.model.asked)) == ("a", 1)
