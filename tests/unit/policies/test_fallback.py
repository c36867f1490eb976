from __future__ import annotations

import pytest

from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    InvalidImage,
    Refused,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAuth,
)
from gateway.policies.fallback import Fallback


@pytest.fixture
def fallback(metrics, clock):
    def make(*candidates):
        return Fallback(candidates, metrics=metrics, clock=clock)

    return make


@pytest.mark.parametrize(
    "failure",
    [BackendUnavailable("down"), UnsupportedByModel("no"), UnusableAnswer("prose"), UpstreamAuth("key refused")],
    ids=lambda failure: failure.reason,
)
async def test_the_next_model_answers_where_another_one_might(fallback, candidate, ask, failure):
    answer = await fallback(candidate("a", failure), candidate("b")).answer(ask())

    assert answer.model == "b"


@pytest.mark.parametrize(
    "failure", [Refused("no"), InvalidImage("bad", limit="decode")], ids=lambda failure: failure.reason
)
async def test_nobody_routes_around_a_refusal_or_the_caller_s_own_fault(fallback, candidate, ask, failure):
    second = candidate("b")

    with pytest.raises(type(failure)):
        await fallback(candidate("a", failure), second).answer(ask())

    assert second.model.asked == []


async def test_a_hung_model_leaves_the_next_one_time(fallback, candidate, ask):
    hung = candidate("a", DeadlineExceeded("late"), takes_s=20 / 3)
    second = candidate("b")
    asked = ask(seconds=10.0)

    answer = await fallback(hung, second).answer(asked)

    assert answer.model == "b"
    assert hung.model.asked[0].deadline == pytest.approx(1000 + 20 / 3)
    assert second.model.asked[0].deadline == asked.deadline


async def test_the_last_model_gets_all_the_time_and_its_deadline_is_the_caller_s(fallback, candidate, ask):
    only = candidate("a", DeadlineExceeded("late"), takes_s=10.0)
    asked = ask(seconds=10.0)

    with pytest.raises(DeadlineExceeded):
        await fallback(only).answer(asked)

    assert only.model.asked[0].deadline == asked.deadline


async def test_when_all_fail_the_caller_hears_what_a_later_try_may_mend(fallback, candidate, ask):
    with pytest.raises(BackendUnavailable, match="down"):
        await fallback(candidate("a", BackendUnavailable("down")), candidate("b", UnsupportedByModel("no"))).answer(
            ask()
        )


async def test_it_is_ready_while_one_model_is(fallback, candidate):
    assert await fallback(candidate("a", is_ready=False), candidate("b")).ready()
    assert not await fallback(candidate("a", is_ready=False)).ready()
