"""A race of which one or both fail."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from gateway.errors import BackendUnavailable, DeadlineExceeded, Refused, UnusableAnswer
from tests.fixtures.hedging import asked_fully, attempts, settle

pytestmark = pytest.mark.usefixtures("no_task_is_left")


@pytest.mark.parametrize("failure", [UnusableAnswer("prose"), Refused("no")], ids=lambda failure: failure.reason)
async def test_where_the_second_fails_the_first_is_waited_for(hedge, held, ask, failure):
    (first, slow), (second, broken) = held("a"), held("b", failure)
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await broken.asked.wait()
    broken.go.set()
    await settle()
    slow.go.set()

    assert (await call).model == "a"
    assert attempts(asked) == [("a", "ok", ""), ("b", "failed", "FAILED")]


async def test_where_the_first_fails_the_second_is_waited_for_and_not_asked_again(hedge, held, ask):
    (first, broken), (second, slow) = held("a", BackendUnavailable("down")), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await slow.asked.wait()
    broken.go.set()
    await settle()
    slow.go.set()

    assert (await call).model == "b"
    assert attempts(asked) == [("a", "failed", "FAILED"), ("b", "ok", "")]


async def test_where_both_fail_the_third_is_asked(hedge, held, candidate, ask, sample):
    (first, broken), (second, broken_too) = held("a", UnusableAnswer("prose")), held("b", UnusableAnswer("prose"))
    asked = ask()
    call = asyncio.create_task(hedge(first, second, candidate("c")).answer(asked))
    await broken_too.asked.wait()
    broken.go.set()
    broken_too.go.set()

    assert (await call).model == "c"
    assert attempts(asked) == [("a", "failed", "FAILED"), ("b", "failed", "FAILED")]
    assert sample("vision_gateway_hedges_total", rpc="Caption", outcome="failed") == 1


async def test_where_all_fail_the_caller_hears_what_a_later_try_may_mend(hedge, held, ask):
    (first, broken), (second, broken_too) = held("a", UnusableAnswer("prose")), held("b", BackendUnavailable("down"))
    call = asyncio.create_task(hedge(first, second).answer(ask()))
    await broken_too.asked.wait()
    broken.go.set()
    broken_too.go.set()

    with pytest.raises(BackendUnavailable) as caught:
        await call
    assert caught.value.metadata["attempts"] == "a:FAILED,b:FAILED"


async def test_nobody_routes_around_a_refusal_of_the_first(hedge, held, ask):
    (first, refusing), (second, slow) = held("a", Refused("no")), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await slow.asked.wait()
    refusing.go.set()

    with pytest.raises(Refused):
        await call
    assert attempts(asked) == [("a", "failed", "FAILED"), ("b", "failed", "CANCELLED")]


async def test_a_first_model_that_is_late_leaves_the_second_all_the_time_of_the_call(hedge, held, ask):
    (first, late), (second, slow) = held("a", DeadlineExceeded("late")), held("b")
    asked = ask()
    call = asyncio.create_task(hedge(first, second).answer(asked))
    await slow.asked.wait()
    late.go.set()
    await settle()
    slow.go.set()

    assert (await call).model == "b"
    assert asked_fully(slow).deadline == asked.deadline > asked_fully(late).deadline


async def test_a_third_model_is_left_its_time(hedge, held, candidate, ask):
    (first, _), (second, quick) = held("a"), held("b")
    quick.go.set()
    asked = ask(seconds=9.0)

    await hedge(first, second, candidate("c")).answer(asked)

    assert asked_fully(quick).deadline == pytest.approx(asked.deadline - 3.0)


async def test_failures_are_not_kept_by_their_own_tracebacks(hedge, held, candidate, ask):
    (first, late), (second, later) = held("a", DeadlineExceeded("late")), held("b", DeadlineExceeded("later"))
    gone = [weakref.ref(model.inner.steps[0]) for model in (late, later)]
    gc.disable()
    try:
        call = asyncio.create_task(hedge(first, second, candidate("c")).answer(ask()))
        await later.asked.wait()
        late.go.set()
        later.go.set()

        assert (await call).model == "c"
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()
