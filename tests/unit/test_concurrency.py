from __future__ import annotations

import pytest

from gateway.concurrency import Fixed, Gradient


class FakeClock:
    """A clock that moves only when told."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def answer(clock):
    """Has a window of answers come in."""

    def window(gradient, seconds, *, kind="Caption", inflight=None, windows=1):
        for _ in range(windows):
            clock.now += 1.0
            for _ in range(10):
                gradient.took(kind, seconds, inflight or gradient.limit)
        return gradient.limit

    return window


def test_a_fixed_limit_learns_nothing():
    fixed = Fixed(7)
    fixed.took("Caption", 100.0, 7)
    fixed.overloaded()

    assert fixed.limit == 7


@pytest.mark.parametrize(("ceiling", "first"), [(64, 4), (3, 3), (1, 1)])
def test_it_begins_with_few_or_at_its_ceiling(clock, ceiling, first):
    assert Gradient(ceiling, clock).limit == first


def test_it_doubles_up_to_its_ceiling_while_answers_are_as_fast_as_the_first_ones(clock, answer):
    gradient = Gradient(64, clock)

    assert [answer(gradient, 0.1) for _ in range(5)] == [8, 16, 32, 64, 64]


def test_once_answers_were_slow_it_grows_by_its_square_root_while_they_are_as_fast_as_usual(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=4)
    shrunk = answer(gradient, 2.0, windows=3)

    assert (shrunk, [answer(gradient, 0.1) for _ in range(8)]) == (18, [22, 27, 32, 38, 44, 51, 58, 64])


def test_it_shrinks_by_half_at_most_each_second_while_answers_are_slow(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=10)

    assert [answer(gradient, 2.0) for _ in range(4)] == [40, 26, 18, 13]


def test_it_is_never_less_than_four(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=10)

    assert answer(gradient, 100.0, windows=30) == 4


def test_a_ceiling_below_the_floor_is_kept(clock, answer):
    gradient = Gradient(2, clock)
    answer(gradient, 0.1)

    assert answer(gradient, 100.0, windows=30) == 2


def test_a_limit_that_is_not_used_stays_as_it_is(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=10)

    assert answer(gradient, 5.0, inflight=31) == 64
    assert answer(Gradient(64, clock), 0.1, inflight=1) == 4


def test_answers_up_to_twice_as_slow_as_usual_are_no_overload(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=10)

    assert answer(gradient, 0.2) == 64


def test_kinds_that_take_long_are_not_taken_for_slow(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=10)

    assert answer(gradient, 10.0, kind="OCR", windows=3) == 64
    assert answer(gradient, 40.0, kind="OCR") == 40


def test_few_answers_or_a_short_time_change_nothing(clock):
    gradient = Gradient(64, clock)
    clock.now += 5.0
    for _ in range(9):
        gradient.took("Caption", 0.1, 4)
    few = gradient.limit
    gradient.took("Caption", 0.1, 4)
    enough = gradient.limit
    clock.now += 0.9
    for _ in range(1000):
        gradient.took("Caption", 0.1, 8)

    assert (few, enough, gradient.limit) == (4, 8, 8)


def test_a_model_that_turns_calls_away_is_asked_by_a_tenth_fewer_once_a_second(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 0.1, windows=4)
    limits = []
    for _ in range(3):
        gradient.overloaded()
        gradient.overloaded()
        limits.append(gradient.limit)
        clock.now += 1.0

    assert limits == [57, 51, 46]


@pytest.mark.parametrize("times", [3, 20])
def test_a_model_that_stays_slow_however_few_calls_are_made_is_taken_at_its_new_speed_within_minutes(
    clock, answer, times
):
    gradient = Gradient(64, clock)
    answer(gradient, 1.0, windows=10)
    soon = answer(gradient, 1.0 * times, windows=10)

    assert soon <= 32
    assert answer(gradient, 1.0 * times, windows=300) == 64


def test_a_model_that_its_own_calls_slow_down_is_not_taken_for_a_slow_one_after_hours_either(clock, answer):
    gradient = Gradient(200, clock)
    limits = [answer(gradient, 0.1 * max(1.0, gradient.limit / 8)) for _ in range(4 * 3600)]

    assert max(limits[100:]) <= 24


def test_a_slow_model_is_taken_at_its_speed_while_few_calls_are_made(clock, answer):
    gradient = Gradient(64, clock)
    answer(gradient, 1.0, windows=10)
    answer(gradient, 5.0, inflight=2, windows=600)

    assert answer(gradient, 5.0, windows=5) == 64
