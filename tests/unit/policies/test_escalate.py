from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import Quote
from gateway.errors import (
    BackendUnavailable,
    BudgetExceeded,
    CostAboveLimit,
    DeadlineExceeded,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
)
from gateway.policies.cap import Cap
from gateway.policies.save import Save
from tests.fixtures.escalating import ReadingSink, Recorded, asked_of, attempts


async def test_a_doubtful_answer_is_passed_over_for_the_next_model_s(escalate, named, ask, escalations):
    asked = ask()

    answer = await escalate(named("doubtful"), named("sure")).answer(asked)

    assert answer.model == "sure"
    assert attempts(asked) == [("doubtful", "ok", "DOUBTFUL:EMPTY_TEXT"), ("sure", "ok", "")]
    assert sum(attempt.cost_nano_usd for attempt in asked.trace.attempts) == 14
    assert escalations("doubtful", "EMPTY_TEXT") == 1


async def test_an_answer_that_is_not_doubtful_is_given_and_nobody_else_asked(escalate, named, ask, sample):
    second = named("other")

    assert (await escalate(named("sure"), second).answer(ask())).model == "sure"
    assert asked_of(second) == []
    assert sample("vision_gateway_agreement_ratio_count", rpc="Caption", model="sure", other="other") is None


async def test_a_doubtful_answer_is_no_failure_that_is_fallen_back_from(escalate, named, ask, sample):
    await escalate(named("doubtful"), named("sure")).answer(ask())

    assert sample("vision_gateway_fallbacks_total", rpc="Caption", reason="EMPTY_TEXT") is None


async def test_the_last_model_s_answer_is_given_as_it_is(escalate, named, ask, escalations):
    asked = ask()

    answer = await escalate(named("dubious"), named("doubtful")).answer(asked)

    assert answer.model == "doubtful"
    assert attempts(asked) == [("dubious", "ok", "DOUBTFUL:NO_NUMBER"), ("doubtful", "ok", "")]
    assert (escalations("dubious", "NO_NUMBER"), escalations("doubtful", "EMPTY_TEXT")) == (1, None)


async def test_a_model_that_is_alone_is_not_doubted(escalate, named, ask):
    asked = ask()

    assert (await escalate(named("doubtful")).answer(asked)).model == "doubtful"
    assert (attempts(asked), asked.trace.route_reason) == ([("doubtful", "ok", "")], "")


@pytest.mark.parametrize(
    "failure",
    [
        BackendUnavailable("down"),
        CostAboveLimit("dear"),
        BudgetExceeded("spent", subject="p", retry_after_s=1.0),
        DeadlineExceeded("late"),
        Refused("no"),
        UnusableAnswer("prose"),
        TruncatedAnswer("cut"),
    ],
    ids=lambda failure: failure.reason,
)
async def test_where_every_later_model_fails_the_doubtful_answer_is_given_after_all(
    escalate, named, ask, failure, escalations
):
    asked = ask()
    asked.trace.route_reason = "route:default"

    answer = await escalate(named("doubtful"), named("sure", failure)).answer(asked)

    assert answer.model == "doubtful"
    assert asked.trace.route_reason == "route:default,doubtful:EMPTY_TEXT"
    assert attempts(asked) == [("doubtful", "ok", "DOUBTFUL:EMPTY_TEXT"), ("sure", "failed", failure.reason)]
    assert escalations("doubtful", "EMPTY_TEXT") is None


async def test_of_several_doubtful_answers_the_last_one_is_given(escalate, named, ask, escalations):
    asked = ask()
    down = named("sure", BackendUnavailable("down"))

    answer = await escalate(named("doubtful"), named("dubious"), down).answer(asked)

    assert (answer.model, asked.trace.route_reason) == ("dubious", ",doubtful:NO_NUMBER")
    assert (escalations("doubtful", "EMPTY_TEXT"), escalations("dubious", "NO_NUMBER")) == (1, None)


async def test_the_models_after_the_one_that_answered_are_asked_not_those_before(escalate, named, ask):
    asked = ask()
    down = named("down", BackendUnavailable("down"))

    await escalate(down, named("doubtful"), named("sure")).answer(asked)

    assert [attempt.model for attempt in asked.trace.attempts] == ["down", "doubtful", "sure"]


async def test_a_model_known_to_take_longer_than_is_left_is_not_paid_for_in_vain(escalate, named, ask, takes):
    takes("sure", 9.95)
    second = named("sure")
    asked = ask(seconds=10.0)

    answer = await escalate(named("doubtful"), second).answer(asked)

    assert (answer.model, asked_of(second)) == ("doubtful", [])
    assert attempts(asked) == [("doubtful", "ok", "DOUBTFUL:EMPTY_TEXT"), ("sure", "skipped", "DEADLINE_TOO_SHORT")]


@pytest.mark.parametrize("out", [{"is_open": lambda: True}, {"is_ready": lambda: False}], ids=["paused", "not ready"])
async def test_a_model_that_is_out_is_no_last_resort_where_there_is_an_answer(escalate, named, ask, out):
    second = replace(named("sure"), **out)
    asked = ask()

    assert (await escalate(named("doubtful"), second).answer(asked)).model == "doubtful"
    assert (asked_of(second), attempts(asked)[1]) == ([], ("sure", "skipped", "BACKEND_UNAVAILABLE"))


async def test_time_is_kept_to_give_the_doubtful_answer_after_all(escalate, named, ask):
    second = named("sure")
    asked = ask()

    await escalate(named("doubtful"), second).answer(asked)

    assert asked_of(second)[0].deadline == pytest.approx(asked.deadline - 0.1)


async def test_nothing_is_asked_once_the_time_is_up(escalate, named, ask):
    second = named("sure")

    await escalate(named("doubtful", takes_s=9.95), second).answer(ask(seconds=10.0))

    assert asked_of(second) == []


async def test_what_the_doubtful_answer_cost_counts_against_what_the_next_may(escalate, named, ask, metrics):
    allowances = []

    def fit(_, allowance):
        allowances.append(allowance)
        raise CostAboveLimit("dear")

    second = named("sure")
    capped = replace(second, model=Cap(second.model, name="sure", fit=fit, metrics=metrics))
    asked = ask(max_cost_nano_usd=10)

    assert (await escalate(named("doubtful"), capped).answer(asked)).model == "doubtful"
    assert (allowances, asked_of(second)) == ([10 - 7], [])
    assert attempts(asked)[1] == ("sure", "skipped", "COST_ABOVE_LIMIT")


async def test_an_answer_that_was_cut_off_is_passed_over_for_the_next_model_s(escalate, named, ask, escalations):
    asked = ask()

    answer = await escalate(named("cut", TruncatedAnswer("cut")), named("sure")).answer(asked)

    assert answer.model == "sure"
    assert attempts(asked) == [("cut", "failed", "TRUNCATED_ANSWER"), ("sure", "ok", "")]
    assert escalations("cut", "TRUNCATED_ANSWER") == 1


async def test_where_nobody_else_answers_an_answer_cut_off_stays_what_it_is(escalate, named, ask):
    with pytest.raises(TruncatedAnswer, match="cut"):
        await escalate(named("cut", TruncatedAnswer("cut")), named("down", BackendUnavailable("down"))).answer(ask())


async def test_where_nobody_answers_at_all_the_failure_is_the_one_of_plain_fallback(escalate, named, ask):
    with pytest.raises(BackendUnavailable, match="down"):
        await escalate(named("a", BackendUnavailable("down")), named("b", UnusableAnswer("prose"))).answer(ask())


@pytest.mark.parametrize("step", [(), (TruncatedAnswer("cut"),)], ids=["doubtful", "cut off"])
async def test_an_answer_that_the_caller_has_begun_to_read_is_its_answer(escalate, named, ask, step):
    second = named("sure")
    asked = replace(ask(), sink=ReadingSink(committed=True))
    reading = escalate(named("doubtful", *step), second).answer(asked)

    if step:
        with pytest.raises(TruncatedAnswer):
            await reading
    else:
        assert (await reading).model == "doubtful"
    assert asked_of(second) == []


async def test_an_answer_of_which_nothing_was_read_yet_is_passed_over(escalate, named, ask):
    asked = replace(ask(), sink=ReadingSink(committed=False))

    assert (await escalate(named("doubtful"), named("sure")).answer(asked)).model == "sure"


async def test_a_failure_after_the_caller_began_to_read_the_next_model_s_answer_is_the_call_s(escalate, named, ask):
    sink = ReadingSink(committed=False)
    second = named("sure", BackendUnavailable("gone"))

    class Writing(Recorded):
        async def answer(self, asked):
            sink.committed = True
            return await super().answer(asked)

    writing = replace(second, model=Writing(second.model.inner))

    with pytest.raises(BackendUnavailable, match="gone"):
        await escalate(named("doubtful"), writing).answer(replace(ask(), sink=sink))


async def test_an_escalated_call_saves_what_all_its_attempts_leave_of_the_dearest(
    escalate, named, ask, metrics, sample
):
    route = escalate(named("doubtful"), named("sure"))
    expected = {"doubtful": 9, "sure": 9, "dearest": 100}
    quotes = {name: lambda _, cost=cost: Quote(0, 0, 0, cost, cost) for name, cost in expected.items()}
    saving = Save(route, quotes=quotes, metrics=metrics)

    await saving.answer(ask())

    saved = {"rpc": "Caption", "model": "sure"}
    assert sample("vision_gateway_cost_saved_usd_total", **saved) == pytest.approx((100 - 14) / 1e9)


async def test_it_is_ready_while_one_model_is(escalate, named):
    assert await escalate(named("a", is_ready=False), named("b")).ready()
    assert not await escalate(named("a", is_ready=False)).ready()
