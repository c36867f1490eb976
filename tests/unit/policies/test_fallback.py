from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.domain import Attempt, Outcome
from gateway.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    DeadlineTooShort,
    InvalidImage,
    Refused,
    UnsupportedByModel,
    UnusableAnswer,
    UpstreamAuth,
)
from gateway.policies.fallback import Fallback


@pytest.fixture
def fallback(latency, metrics, clock):
    def make(*candidates):
        return Fallback(candidates, latency=latency, metrics=metrics, clock=clock)

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
    assert hung.model.asked[0].until == asked.deadline
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


async def test_a_share_spent_before_a_model_could_be_asked_leaves_the_rest_to_the_next(fallback, candidate, ask):
    slow = candidate("a", DeadlineTooShort("too few"), takes_s=20 / 3)

    assert (await fallback(slow, candidate("b")).answer(ask(seconds=10.0))).model == "b"


@pytest.mark.parametrize("failure", [DeadlineExceeded("late"), DeadlineTooShort("too few")], ids=lambda exc: exc.reason)
async def test_when_the_last_model_is_late_the_time_is_up_whatever_the_clock_says(fallback, candidate, ask, failure):
    with pytest.raises(type(failure)):
        await fallback(candidate("a", BackendUnavailable("down")), candidate("b", failure, takes_s=9.999)).answer(ask())


async def test_a_late_model_leaves_nobody_to_ask_once_the_caller_s_own_time_is_up(fallback, candidate, ask):
    second = candidate("b")

    with pytest.raises(DeadlineExceeded):
        await fallback(candidate("a", DeadlineExceeded("late"), takes_s=10.0), second).answer(ask(seconds=10.0))

    assert second.model.asked == []


async def test_when_all_fail_the_caller_hears_what_each_of_them_said(fallback, candidate, ask):
    asked = ask()
    asked.trace.attempts += [
        Attempt("a", Outcome.FAILED, "UNUSABLE_ANSWER"),
        Attempt("b", Outcome.SKIPPED, "COST_ABOVE_LIMIT"),
    ]

    with pytest.raises(UnsupportedByModel) as caught:
        await fallback(candidate("a", UnusableAnswer("prose")), candidate("b", UnsupportedByModel("no"))).answer(asked)

    assert caught.value.metadata["attempts"] == "a:UNUSABLE_ANSWER,b:COST_ABOVE_LIMIT"


async def test_a_failure_that_was_mended_is_not_kept_by_its_own_traceback(fallback, candidate, ask):
    failed = candidate("a", BackendUnavailable("down"))
    gone = weakref.ref(failed.model.steps[0])
    gc.disable()
    try:
        await fallback(failed, candidate("b")).answer(ask())

        assert gone() is None
    finally:
        gc.enable()


async def test_a_call_passed_on_is_counted_by_why(fallback, candidate, ask, sample):
    await fallback(candidate("a", UnusableAnswer("prose")), candidate("b")).answer(ask())

    assert sample("vision_gateway_fallbacks_total", rpc="Caption", reason="UNUSABLE_ANSWER") == 1


async def test_a_model_leaves_the_next_one_the_time_it_is_known_to_take(fallback, candidate, ask, takes):
    takes("a", 1.0)
    takes("b", 4.0)
    first = candidate("a")
    asked = ask(seconds=10.0)

    await fallback(first, candidate("b")).answer(asked)

    assert first.model.asked[0].deadline == asked.deadline - 4.0


async def test_a_model_that_needs_more_than_what_the_next_one_leaves_gets_two_thirds(fallback, candidate, ask, takes):
    takes("a", 7.0)
    takes("b", 4.0)
    first = candidate("a")

    await fallback(first, candidate("b")).answer(ask(seconds=10.0))

    assert first.model.asked[0].deadline == pytest.approx(1000 + 20 / 3)


async def test_a_model_that_takes_longer_than_is_left_is_passed_over_for_one_that_does_not(
    fallback, candidate, ask, takes, sample
):
    takes("a", 12.0)
    takes("b", 4.0)
    slow = candidate("a")
    asked = ask(seconds=10.0)

    answer = await fallback(slow, candidate("b")).answer(asked)

    assert (answer.model, slow.model.asked) == ("b", [])
    assert asked.trace.attempts == [Attempt("a", Outcome.SKIPPED, "DEADLINE_TOO_SHORT")]
    skipped = {"outcome": "skipped", "reason": "DEADLINE_TOO_SHORT"}
    assert sample("vision_gateway_attempts_total", rpc="Caption", model="a", **skipped) == 1


@pytest.mark.parametrize("second", [{"takes": 11.0}, {"takes": None}, {"takes": 4.0, "is_open": True}], ids=str)
async def test_a_slow_model_is_asked_where_no_later_one_is_known_to_be_in_time(fallback, candidate, ask, takes, second):
    takes("a", 12.0)
    if second["takes"]:
        takes("b", second["takes"])

    answer = await fallback(candidate("a"), candidate("b", is_open=second.get("is_open", False))).answer(ask())

    assert answer.model == "a"


async def test_where_every_model_is_open_only_the_last_one_is_a_last_resort(fallback, candidate, ask):
    first, second = candidate("a", BackendUnavailable("open"), is_open=True), candidate("b", is_open=True)

    assert (await fallback(first, second).answer(ask())).model == "b"
    assert [each.model.asked[0].last_resort for each in (first, second)] == [False, True]


async def test_the_last_model_is_no_last_resort_while_an_earlier_one_works(fallback, candidate, ask):
    second = candidate("b", is_open=True)

    await fallback(candidate("a", UnusableAnswer("prose")), second).answer(ask())

    assert not second.model.asked[0].last_resort


async def test_each_model_is_told_whether_another_one_is_asked_should_it_fail(fallback, candidate, ask):
    three = [candidate(name, *([BackendUnavailable("down")] if name != "c" else [])) for name in "abc"]

    await fallback(*three).answer(ask())

    assert [each.model.asked[0].has_next for each in three] == [True, True, False]


@pytest.mark.parametrize(
    ("takes_s", "is_open", "has_next"),
    [(1.0, False, True), (None, False, True), (11.0, False, False), (1.0, True, False)],
)
async def test_a_model_that_is_paused_or_takes_too_long_is_nobody_to_ask_next(
    fallback, candidate, ask, takes, takes_s, is_open, has_next
):
    if takes_s:
        takes("b", takes_s)
    first = candidate("a")

    await fallback(first, candidate("b", is_open=is_open)).answer(ask(seconds=10.0))

    assert first.model.asked[0].has_next is has_next


async def test_whoever_has_others_to_ask_says_so_to_the_last_model_too(fallback, candidate, ask):
    only = candidate("a")

    await fallback(only).answer(replace(ask(), has_next=True))

    assert only.model.asked[0].has_next


async def test_a_call_that_has_reached_its_caller_goes_to_nobody_else_when_its_share_of_the_time_is_up(
    fallback, candidate, ask
):
    second = candidate("b")
    asked = replace(ask(), sink=SimpleNamespace(committed=True))

    with pytest.raises(DeadlineExceeded):
        await fallback(candidate("a", DeadlineExceeded("late"), takes_s=6.0), second).answer(asked)

    assert second.model.asked == []
