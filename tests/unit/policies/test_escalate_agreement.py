"""Answers that are held against the next model's, by chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import (
    BackendUnavailable,
)
from tests.fixtures.escalating import ReadingSink, asked_of, attempts


async def test_answers_that_agree_are_compared_and_the_first_is_given(escalate, named, ask, drawn, sample):
    asked = ask()

    answer = await escalate(named("sure"), named("other"), sample=drawn(0.5)).answer(asked)

    assert answer.model == "sure"
    assert attempts(asked) == [("sure", "ok", ""), ("other", "ok", "")]
    assert sample("vision_gateway_agreement_ratio_sum", rpc="Caption", model="sure", other="other") == 0.5


async def test_an_answer_with_which_the_next_model_disagrees_is_passed_over(
    escalate, named, ask, drawn, sample, escalations
):
    asked = ask()

    answer = await escalate(named("sure"), named("other"), sample=drawn(0.25)).answer(asked)

    assert answer.model == "other"
    assert attempts(asked) == [("sure", "ok", "DOUBTFUL:DISAGREEMENT"), ("other", "ok", "")]
    assert sample("vision_gateway_agreement_ratio_sum", rpc="Caption", model="other", other="sure") == 0.25
    assert escalations("sure", "DISAGREEMENT") == 1


async def test_a_doubtful_answer_overrules_none_that_is_not(escalate, named, ask, drawn, escalations):
    answer = await escalate(named("sure"), named("doubtful"), sample=drawn(0.0)).answer(ask())

    assert (answer.model, escalations("sure", "DISAGREEMENT")) == ("sure", None)


async def test_a_comparison_that_fails_costs_nobody_the_answer(escalate, named, ask, drawn):
    down = named("other", BackendUnavailable("down"))

    assert (await escalate(named("sure"), down, sample=drawn(0.0)).answer(ask())).model == "sure"


@pytest.mark.parametrize("why", ["not drawn", "streamed", "paused"])
async def test_answers_are_not_compared_where_they_cannot_or_need_not_be(escalate, named, ask, drawn, why):
    second = named("other", is_open=why == "paused")
    asked = replace(ask(), sink=ReadingSink(committed=False)) if why == "streamed" else ask()
    sample = drawn(0.0, chance=0.1 if why == "not drawn" else 0.0)

    assert (await escalate(named("sure"), second, sample=sample).answer(asked)).model == "sure"
    assert asked_of(second) == []


async def test_what_was_escalated_is_not_compared_besides(escalate, named, ask, drawn):
    third = named("third")

    assert (await escalate(named("doubtful"), named("sure"), third, sample=drawn(0.0)).answer(ask())).model == "sure"
    assert asked_of(third) == []
