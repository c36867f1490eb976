from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.simulation.answers import Verdict
from gateway.simulation.behaviour import Behaviour
from gateway.simulation.scripts import Drawn, every_way
from gateway.simulation.trace import Call

BEHAVIOURS = {
    "often": Behaviour(right=Fraction(4, 5), noticed=Fraction(1, 2)),
    "seldom": Behaviour(right=Fraction(1, 10), noticed=0, false_alarms=Fraction(1, 4)),
}


def shares(*, alike, of):
    """The probability of what *of* tells of the two verdicts."""
    found = {}
    for share, verdicts in every_way("any", BEHAVIOURS, alike=alike):
        key = of(verdicts["often"], verdicts["seldom"])
        found[key] = found.get(key, 0) + share
    return found


def rights(often, seldom):
    return often.right, seldom.right


def test_models_that_err_independently_are_right_in_any_combination():
    assert shares(alike=False, of=rights) == {
        (True, True): Fraction(8, 100),
        (True, False): Fraction(72, 100),
        (False, True): Fraction(2, 100),
        (False, False): Fraction(18, 100),
    }


def test_of_models_that_err_alike_the_worse_one_is_right_only_where_the_better_one_is():
    assert shares(alike=True, of=rights) == {
        (True, True): Fraction(1, 10),
        (True, False): Fraction(7, 10),
        (False, False): Fraction(2, 10),
    }


def test_answers_are_doubtful_by_their_own_shares():
    assert shares(alike=True, of=lambda often, seldom: (often.doubtful, seldom.doubtful)) == {
        (False, False): Fraction(1, 10) * Fraction(3, 4) + Fraction(8, 10),
        (False, True): Fraction(1, 10) * Fraction(1, 4),
        (True, False): Fraction(1, 10),
    }


@pytest.mark.parametrize("alike", [False, True])
def test_what_is_drawn_has_the_shares_that_are_reckoned(alike):
    calls = {str(number): Call() for number in range(4000)}
    script = Drawn(calls, BEHAVIOURS, 1, alike)

    drawn = [tuple(script.verdict(call, model) for model in BEHAVIOURS) for call in calls]

    for share, verdicts in every_way("", BEHAVIOURS, alike=alike):
        # Four standard deviations of a share of 4000 draws are 0.032 at most; the seed is fixed.
        assert drawn.count(tuple(verdicts.values())) / 4000 == pytest.approx(float(share), abs=0.032)


def test_a_model_says_the_same_of_the_same_picture_each_time():
    calls = {str(number): Call(image="cat") for number in range(20)}

    assert len({Drawn(calls, BEHAVIOURS, 1).verdict(call, "often") for call in calls}) == 1


def test_a_verdict_depends_on_nothing_but_seed_call_and_model():
    calls = {"a": Call(), "b": Call()}

    first, again = Drawn(calls, BEHAVIOURS, 1), Drawn(calls, BEHAVIOURS, 1)
    first.verdict("b", "often")

    assert isinstance(again.verdict("a", "often"), Verdict)
    assert first.verdict("a", "often") == again.verdict("a", "often")
