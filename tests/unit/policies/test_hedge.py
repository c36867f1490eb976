from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain import CacheOutcome
from gateway.errors import BackendUnavailable
from tests.fixtures.hedging import NEVER, SOON, asked_fully, attempts, settle

pytestmark = pytest.mark.usefixtures("no_task_is_left")


async def test_a_model_that_takes_long_is_raced_by_the_next_and_the_first_answer_is_given(hedge, held, ask, sample):
    (first, slow), (second, quick) = held("a"), held("b")
    asked = ask()
    quick.go.set()

    answer = await hedge(first, second).answer(asked)

    assert answer.model == "b"
    assert attempts(asked) == [("a", "failed", "CANCELLED"), ("b", "ok", "")]
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="second") == 1
    assert not slow.go.is_set()


async def test_the_first_model_may_still_win(hedge, held, ask, sample):
    (first, slow), (second, slower) = held("a"), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await slower.asked.wait()
    slow.go.set()

    assert (await call).model == "a"
    assert attempts(asked) == [("a", "ok", ""), ("b", "failed", "CANCELLED")]
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="first") == 1


async def test_what_the_loser_cost_is_on_the_record(hedge, held, ask):
    (first, slow), (second, quick) = held("a"), held("b")
    slow.cost = 7
    asked = ask()
    quick.go.set()

    await hedge(first, second).answer(asked)

    assert [each.cost_nano_usd for each in asked.trace.attempts] == [7, 0]


async def test_a_model_that_answers_in_time_is_asked_alone(hedge, candidate, ask, sample):
    second = candidate("b")

    answer = await hedge(candidate("a"), second, after_s=NEVER).answer(ask())

    assert (answer.model, second.model.asked) == ("a", [])
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="first") is None


async def test_a_model_that_fails_before_is_followed_by_the_next_as_ever(hedge, candidate, ask, sample):
    answer = await hedge(candidate("a", BackendUnavailable("down")), candidate("b"), after_s=NEVER).answer(ask())

    assert answer.model == "b"
    assert sample("vision_gateway_fallbacks_total", rpc="Caption", reason="BACKEND_UNAVAILABLE") == 1


async def test_unset_the_time_is_what_nineteen_of_twenty_calls_take(hedge, held, ask, takes):
    (first, _), (second, quick) = held("a"), held("b")
    takes("a", SOON)
    quick.go.set()

    assert (await hedge(first, second, after_s=None).answer(ask())).model == "b"


async def test_while_that_is_not_known_nobody_is_raced(hedge, held, candidate, ask):
    first, slow = held("a")
    second = candidate("b")
    call = asyncio.create_task(hedge(first, second, after_s=None).answer(ask()))
    await slow.asked.wait()
    slow.go.set()

    assert (await call).model == "a"
    assert second.model.asked == []


async def test_a_model_whose_slow_calls_lose_does_not_come_to_look_quick(hedge, held, ask, latency):
    (first, _), (second, quick) = held("a"), held("b")
    quick.go.set()
    for _ in range(8):
        for seconds in [0.0] * 9 + [SOON] * (latency.p95_s("Caption", "a") is None):
            latency.observe("Caption", "a", seconds)
        await hedge(first, second, after_s=None).answer(ask())

    assert latency.p95_s("Caption", "a") == SOON


@pytest.mark.parametrize(("took_s", "known_s"), [(3.0, 3.0), (0.5, 1.0)], ids=["longer than usual", "cut short"])
async def test_a_race_begun_at_a_set_time_teaches_how_long_the_loser_takes_at_least(
    hedge, held, ask, takes, latency, took_s, known_s
):
    (first, slow), (second, quick) = held("a"), held("b")
    takes("a", 1.0)
    slow.seconds = took_s
    quick.go.set()

    await hedge(first, second).answer(ask())

    assert latency.p95_s("Caption", "a") == known_s


async def test_of_a_loser_of_unknown_speed_nothing_is_learned(hedge, held, ask, latency):
    (first, slow), (second, quick) = held("a"), held("b")
    slow.seconds = 3.0
    quick.go.set()

    for _ in range(5):
        await hedge(first, second).answer(ask())

    assert latency.p95_s("Caption", "a") is None


@pytest.mark.parametrize(
    ("limit", "asked_model"), [(None, "a"), (9, "a"), (10, "b")], ids=["no_limit", "too_low", "room_for_both"]
)
async def test_a_model_that_costs_is_raced_only_where_both_worst_cases_fit(hedge, held, ask, limit, asked_model):
    (first, slow), (second, quick) = held("a", cost=4), held("b", cost=6)
    quick.go.set()
    call = asyncio.create_task(hedge(first, second).answer(ask(max_cost_nano_usd=limit)))
    await slow.asked.wait()
    if asked_model == "a":
        await settle()
        slow.go.set()

    assert (await call).model == asked_model


async def test_a_model_that_costs_may_cost_no_more_than_the_first_one_leaves(hedge, held, ask):
    (first, _), (second, quick) = held("a", cost=4), held("b", cost=6)
    quick.go.set()

    await hedge(first, second).answer(ask(max_cost_nano_usd=12))

    assert asked_fully(quick).options.max_cost_nano_usd == 8


@pytest.mark.parametrize("second", [{"is_open": True}, {"takes": 11.0}], ids=["paused", "too_slow"])
async def test_a_model_that_is_paused_or_would_be_late_is_not_asked(hedge, held, ask, takes, second):
    takes("b", second.pop("takes", 1.0))
    (first, slow), (next_one, quick) = held("a"), held("b", **second)
    call = asyncio.create_task(hedge(first, next_one).answer(ask()))
    await slow.asked.wait()
    await settle()
    slow.go.set()

    assert (await call).model == "a"
    assert not quick.asked.is_set()


async def test_text_that_is_read_as_it_is_written_has_one_writer(hedge, held, candidate, ask):
    class Open:
        committed = False

    first, slow = held("a")
    second = candidate("b")
    call = asyncio.create_task(hedge(first, second).answer(replace(ask(), sink=Open())))
    await slow.asked.wait()
    await settle()
    slow.go.set()

    assert (await call).model == "a"
    assert second.model.asked == []


async def test_a_call_that_is_taken_back_takes_both_back(hedge, held, ask, sample):
    (first, _), (second, slow) = held("a"), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await slow.asked.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert attempts(asked) == [("a", "failed", "CANCELLED"), ("b", "failed", "CANCELLED")]
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="failed") == 1


async def test_a_call_that_is_taken_back_early_takes_the_first_back(hedge, held, ask):
    (first, slow), (second, _) = held("a"), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second, after_s=NEVER).answer(asked))
    await slow.asked.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert attempts(asked) == [("a", "failed", "CANCELLED")]


async def test_a_bug_in_either_is_raised_and_ends_the_other(hedge, held, ask):
    (first, _), (second, wrong) = held("a"), held("b", KeyError("bug"))
    asked = ask()
    wrong.go.set()

    with pytest.raises(KeyError):
        await hedge(first, second).answer(asked)
    assert attempts(asked) == [("a", "failed", "CANCELLED"), ("b", "failed", "FAILED")]


async def test_the_record_is_the_winner_s_and_the_wait_before_it_was_asked_is_upstream_s(hedge, held, clock, ask):
    (first, slow), (second, quick) = held("a"), held("b", takes_s=2.0)

    class Waiting:
        """Spends three seconds, a part of them in a queue, until the second one is asked."""

        async def answer(self, asked):
            asked.trace.queue_s += 1.0
            asked.trace.cache = CacheOutcome.MISS
            clock.now += 3.0
            return await slow.answer(asked)

    asked = ask()
    quick.go.set()

    await hedge(replace(first, model=Waiting()), second).answer(asked)

    assert (asked.trace.queue_s, asked.trace.upstream_s, asked.trace.cache) == (0.0, 5.0, None)
