from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass, replace
from random import Random

import pytest
import structlog

from gateway.domain import CacheOutcome, CachePolicy, SourceImage, Urgency
from gateway.errors import BackendUnavailable, UnusableAnswer
from gateway.policies.shadow import Shadow


class Drawn(Random):
    """Draws what it is told."""

    def random(self):
        return 0.25


@pytest.fixture
async def shadow(metrics, clock):
    """Makes shadows whose answers agree with any other to one half, and closes them."""
    made = []

    def make(candidate, *, share=1.0, max_inflight=1, max_queue=1, agreement=lambda *_: 0.5):
        shadow = Shadow(
            candidate,
            share=share,
            max_inflight=max_inflight,
            max_queue=max_queue,
            agreement=agreement,
            metrics=metrics,
            clock=clock,
            random=Drawn(),
        )
        made.append(shadow)
        return shadow

    yield make
    for each in made:
        await each.aclose()
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.fixture
def count(sample):
    def value(outcome, model="s"):
        return sample("vision_gateway_shadows_total", rpc="Caption", model=model, outcome=outcome)

    return value


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0)


async def test_the_caller_has_its_answer_before_the_shadow_is_asked(shadow, held, model, ask, count):
    candidate, other = held("s")

    answer = await shadow(candidate).behind(model("m")).answer(ask())

    assert (answer.model, other.asked.is_set()) == ("m", False)
    await other.asked.wait()
    assert count("answered") is None


async def test_how_far_the_two_agree_is_recorded(shadow, candidate, model, ask, count, sample):
    seen = []

    def agreement(*given):
        seen.append(given)
        return 0.5

    asked = ask()

    await shadow(candidate("s"), agreement=agreement).behind(model("m")).answer(asked)
    await until(lambda: count("answered"))

    labels = {"rpc": "Caption", "model": "m", "other": "s"}
    assert sample("vision_gateway_agreement_ratio_count", **labels) == 1
    assert sample("vision_gateway_agreement_ratio_sum", **labels) == 0.5
    assert seen == [("Caption", "response", "response", asked.query)]


async def test_only_its_share_of_calls_is_made(shadow, candidate, model, ask, count):
    drawn, not_drawn = candidate("s"), candidate("t")
    inner = shadow(not_drawn, share=0.25).behind(shadow(drawn, share=0.26).behind(model("m")))

    await inner.answer(ask())
    await until(lambda: count("answered"))

    assert not_drawn.model.asked == []


async def test_a_failed_call_has_no_shadow(shadow, candidate, model, ask):
    other = candidate("s")

    with pytest.raises(UnusableAnswer):
        await shadow(other).behind(model("m", UnusableAnswer("prose"))).answer(ask())
    await asyncio.sleep(0)

    assert other.model.asked == []


async def test_the_shadow_is_asked_as_itself_in_its_own_time_and_nobody_waits_for_it(
    shadow, candidate, model, ask, clock
):
    class Open:
        committed = True

    other = candidate("s")
    asked = replace(ask(seconds=10.0, max_cost_nano_usd=5), sink=Open(), principal="team-a", has_next=True)

    await shadow(other).behind(model("m", takes_s=4.0)).answer(asked)
    await until(lambda: other.model.asked)

    [seen] = other.model.asked
    assert (seen.principal, seen.request_id, seen.sink, seen.has_next) == ("shadow", asked.request_id, None, False)
    assert seen.deadline == clock.now + 10.0
    assert seen.trace is not asked.trace
    assert (seen.options.max_cost_nano_usd, seen.options.urgency) == (None, Urgency.BULK)
    assert seen.options.cache is CachePolicy.BYPASS


async def test_a_call_that_must_stay_local_has_only_a_local_shadow(shadow, candidate, model, ask, count):
    near, far = candidate("s", local=True), candidate("t", local=False)

    await shadow(far).behind(shadow(near).behind(model("m"))).answer(ask(local_only=True))
    await until(lambda: count("answered"))

    assert far.model.asked == []


async def test_a_model_is_not_its_own_shadow_and_not_that_of_tasks_it_does_not_serve(shadow, candidate, model, ask):
    same, other_task = candidate("m"), replace(candidate("s"), tasks=frozenset({"OCR"}))

    await shadow(same).behind(shadow(other_task).behind(model("m"))).answer(ask())
    await asyncio.sleep(0)

    assert (same.model.asked, other_task.model.asked) == ([], [])


@pytest.mark.parametrize(
    ("cache", "asked"), [(CacheOutcome.HIT, 0), (CacheOutcome.COALESCED, 0), (CacheOutcome.MISS, 1), (None, 1)], ids=str
)
async def test_an_answer_that_no_model_was_asked_for_has_no_shadow(shadow, candidate, model, ask, cache, asked):
    other, call = candidate("s"), ask()
    call.trace.cache = cache

    await shadow(other).behind(model("m")).answer(call)
    await asyncio.sleep(0)

    assert len(other.model.asked) == asked


async def test_beyond_what_may_run_and_wait_calls_are_dropped(shadow, held, model, ask, count):
    candidate, other = held("s")
    inner = shadow(candidate, max_inflight=2, max_queue=3).behind(model("m"))
    for _ in range(7):
        await inner.answer(ask())

    assert count("dropped") == 2
    other.go.set()
    await until(lambda: count("answered") == 5)


async def test_images_are_held_no_longer_than_the_call_runs_or_waits(shadow, held, model, ask, count):
    @dataclass(frozen=True)
    class Image(SourceImage):
        """An image that can be seen to go."""

    class Forgetful(list):
        """Keeps nothing of what a model was asked."""

        def append(self, _):
            pass

    candidate, other = held("s", asked=Forgetful())
    inner = shadow(candidate, max_inflight=1, max_queue=1).behind(model("m", asked=Forgetful()))
    left = []
    gc.disable()
    try:
        for _ in range(4):
            image = Image(b"x", "image/png", 1, 1)
            left.append(weakref.ref(image))
            await inner.answer(replace(ask(), images=(image,)))
            del image
        assert [each() is not None for each in left] == [True, True, False, False]

        other.go.set()
        await until(lambda: count("answered") == 2)
        await until(lambda: not any(each() for each in left))
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("failure", "logged"), [(BackendUnavailable("down"), []), (KeyError("bug"), ["bug"])], ids=["failure", "bug"]
)
async def test_a_shadow_that_fails_is_counted_and_the_next_call_is_made(
    shadow, candidate, model, ask, count, failure, logged
):
    inner = shadow(candidate("s", failure)).behind(model("m"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await inner.answer(ask())
        await until(lambda: count("answered"))

    assert (count("failed"), count("answered")) == (1, 1)
    assert [line["event"] for line in logs] == logged


async def test_closed_it_ends_what_runs_and_drops_what_waits_and_what_comes(shadow, held, model, ask, count):
    candidate, other = held("s")
    closing = shadow(candidate, max_inflight=1, max_queue=1)
    inner = closing.behind(model("m"))
    for _ in range(2):
        await inner.answer(ask())
    await other.asked.wait()

    await closing.aclose()
    await inner.answer(ask())

    assert asyncio.all_tasks() - {asyncio.current_task()} == set()
    assert (count("dropped"), count("answered"), other.inner.asked) == (2, None, [])
